//! Types of messages: names, descriptions in the form that recordings carry, and the hash by which ROS 2 tells whether two
//! programs mean the same type (RIHS01, REP-2016). All of it comes from the texts of `.msg` files.

use hiroz_schema::{FieldDescription, FieldTypeDescription, TypeDescription, TypeDescriptionMsg, TypeId};

/// A type of messages.
#[derive(Debug)]
pub struct Type {
    /// `package/msg/Name`
    pub name: &'static str,
    /// Its `.msg` file.
    pub text: &'static str,
    /// All types that it is made of, directly or not, each once.
    pub needs: &'static [&'static Type],
}

macro_rules! own {
    ($name:literal) => {
        include_str!(concat!("../../examples/ros2/nestling_msgs/msg/", $name, ".msg"))
    };
}

pub static TIME: Type = Type { name: "builtin_interfaces/msg/Time", text: "int32 sec\nuint32 nanosec\n", needs: &[] };
pub static DURATION: Type =
    Type { name: "builtin_interfaces/msg/Duration", text: "int32 sec\nuint32 nanosec\n", needs: &[] };
pub static HEADER: Type =
    Type { name: "std_msgs/msg/Header", text: "builtin_interfaces/Time stamp\nstring frame_id\n", needs: &[&TIME] };
pub static STRING: Type = Type { name: "std_msgs/msg/String", text: "string data\n", needs: &[] };
pub static IMAGE: Type = Type {
    name: "sensor_msgs/msg/Image",
    text: "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n",
    needs: &[&HEADER, &TIME],
};
pub static COMPRESSED_IMAGE: Type = Type {
    name: "sensor_msgs/msg/CompressedImage",
    text: "std_msgs/Header header\nstring format\nuint8[] data\n",
    needs: &[&HEADER, &TIME],
};
pub static QUATERNION: Type = Type {
    name: "geometry_msgs/msg/Quaternion",
    text: "float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1\n",
    needs: &[],
};
pub static VECTOR3: Type =
    Type { name: "geometry_msgs/msg/Vector3", text: "float64 x\nfloat64 y\nfloat64 z\n", needs: &[] };
pub static IMU: Type = Type {
    name: "sensor_msgs/msg/Imu",
    text: "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n\
           geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n\
           geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n",
    needs: &[&HEADER, &TIME, &QUATERNION, &VECTOR3],
};
pub static FEATURE: Type =
    Type { name: "nestling_msgs/msg/Feature", text: own!("Feature"), needs: &[&HEADER, &TIME, &DURATION] };
pub static DECISION: Type =
    Type { name: "nestling_msgs/msg/Decision", text: own!("Decision"), needs: &[&HEADER, &TIME, &DURATION] };
pub static HEALTH: Type =
    Type { name: "nestling_msgs/msg/Health", text: own!("Health"), needs: &[&HEADER, &TIME, &DURATION] };

pub static SAMPLE: Type = Type { name: "nestling_msgs/msg/Sample", text: own!("Sample"), needs: &[&HEADER, &TIME] };
pub static WINDOW: Type = Type { name: "nestling_msgs/msg/Window", text: own!("Window"), needs: &[&HEADER, &TIME] };

/// All of them.
pub static TYPES: &[&Type] = &[
    &TIME,
    &DURATION,
    &HEADER,
    &STRING,
    &IMAGE,
    &COMPRESSED_IMAGE,
    &QUATERNION,
    &VECTOR3,
    &IMU,
    &FEATURE,
    &DECISION,
    &HEALTH,
    &SAMPLE,
    &WINDOW,
];

impl Type {
    /// The name as middleware writes it: `package::msg::dds_::Name_`.
    pub fn dds_name(&self) -> String {
        match self.name.rsplit_once('/') {
            Some((package, name)) => format!("{}::dds_::{name}_", package.replace('/', "::")),
            None => self.name.into(),
        }
    }

    /// The description that MCAP calls `ros2msg`: the type's own text, then those of all types that it needs.
    pub fn ros2msg(&self) -> String {
        let mut text = self.text.to_owned();
        for needed in self.needs {
            let (package, name) = needed.name.split_once("/msg/").unwrap_or(("", needed.name));
            text += &format!("{}\nMSG: {package}/{name}\n{}", "=".repeat(80), needed.text);
        }
        text
    }

    /// `RIHS01_` and 64 hexadecimal digits.
    pub fn hash(&self) -> String {
        let mut needed: Vec<_> = self.needs.iter().map(|needed| needed.description()).collect();
        needed.sort_by(|a, b| a.type_name.cmp(&b.type_name));
        hiroz_schema::calculate_hash(&TypeDescriptionMsg {
            type_description: self.description(),
            referenced_type_descriptions: needed,
        })
        .to_rihs_string()
    }

    fn description(&self) -> TypeDescription {
        let fields = self.text.lines().filter_map(field).collect();
        TypeDescription { type_name: self.name.into(), fields }
    }
}

/// The field of a line of a `.msg` file; `None` for comments, constants and empty lines.
fn field(line: &str) -> Option<FieldDescription> {
    let line = line.split('#').next().unwrap_or_default();
    if line.contains('=') {
        return None;
    }
    let mut words = line.split_whitespace();
    let (kind, name) = (words.next()?, words.next()?);
    let (base, array) = match kind.split_once('[') {
        Some((base, count)) => (base, Some(count.trim_end_matches(']'))),
        None => (kind, None),
    };
    let (id, nested) = match base {
        "bool" => (TypeId::BOOL, None),
        "int8" => (TypeId::INT8, None),
        "uint8" => (TypeId::UINT8, None),
        "int16" => (TypeId::INT16, None),
        "int32" => (TypeId::INT32, None),
        "uint32" => (TypeId::UINT32, None),
        "uint64" => (TypeId::UINT64, None),
        "float32" => (TypeId::FLOAT32, None),
        "float64" => (TypeId::FLOAT64, None),
        "string" => (TypeId::STRING, None),
        other => (TypeId::NESTED_TYPE, Some(other.replacen('/', "/msg/", 1))),
    };
    let (offset, capacity) = match array {
        None => (0, 0),
        Some("") => (TypeId::UNBOUNDED_SEQUENCE_OFFSET, 0),
        Some(count) => (TypeId::ARRAY_OFFSET, count.parse().ok()?),
    };
    let field_type = FieldTypeDescription {
        type_id: id + offset,
        capacity,
        string_capacity: 0,
        nested_type_name: nested.unwrap_or_default(),
    };
    Some(FieldDescription { name: name.into(), field_type, default_value: String::new() })
}

#[cfg(test)]
mod tests;
