//! Messages of ROS 2 as samples, for whoever reads them.

pub mod pixels;
pub mod windows;
