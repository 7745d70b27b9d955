//! A map of what was driven: the road and the tracks on it, to scale.

use plotters::element::PathElement;
use plotters::prelude::*;

use super::axes::{COLOURS, INK, ROAD, UNITS, WIDTH, frame, range, series_colour, svg};
use super::html::escape;

/// The road and the tracks driven on it, in metres.
#[derive(Clone, Debug, Default)]
pub struct TrackMap {
    pub title: String,
    pub caption: String,
    /// The middle of the road; drawn broad, under everything.
    pub road: Vec<[f64; 2]>,
    pub tracks: Vec<Track>,
}

/// One drive.
#[derive(Clone, Debug, Default)]
pub struct Track {
    pub name: String,
    pub points: Vec<[f64; 2]>,
    /// Where the rover left the road.
    pub lost: Vec<[f64; 2]>,
}

/// Room around the drawing that axes and margins take, in points.
const FRAME: (f64, f64) = (94.0, 66.0);
/// Points of one line that are drawn.
const MOST_POINTS: usize = 2000;

impl TrackMap {
    pub(super) fn html(&self) -> String {
        let every = || self.tracks.iter().flat_map(|t| t.points.iter().chain(&t.lost)).chain(&self.road);
        let finite = || every().filter(|p| p.iter().all(|v| v.is_finite()));
        let of = |axis: usize| range(finite().map(move |p| p[axis]), 0.06);
        let (Some(mut x), Some(mut y)) = (of(0), of(1)) else { return "<p class=\"empty\">No data.</p>".to_owned() };
        // One metre is as long across as up: the height follows the width within bounds, the rest becomes room.
        let (wide, high) = (x.end - x.start, y.end - y.start);
        let drawn = f64::from(WIDTH) - FRAME.0;
        let height = (drawn * high / wide).clamp(240.0, 620.0);
        let (need_wide, need_high) = (high * drawn / height, wide * height / drawn);
        let widen = |range: &mut std::ops::Range<f64>, to: f64| {
            let more = (0.5 * (to - (range.end - range.start))).max(0.0);
            *range = range.start - more..range.end + more;
        };
        widen(&mut x, need_wide);
        widen(&mut y, need_high);
        let label = format!("{}: tracks driven, in metres", self.title);
        let drawing = svg((height + FRAME.1) as u32, &label, |area| {
            let mut chart = frame(area, (x, y), ("x (m)", "y (m)"))?;
            let line = |points: &[[f64; 2]], style: ShapeStyle| {
                let step = points.len().div_ceil(MOST_POINTS).max(1);
                let (all, last) = (points.iter().step_by(step), points.last());
                let sound = all.chain(last).filter(|p| p.iter().all(|v| v.is_finite()));
                PathElement::new(sound.map(|p| (p[0], p[1])).collect::<Vec<_>>(), style)
            };
            chart.draw_series([line(&self.road, ROAD.stroke_width(12 * UNITS))])?;
            for (index, track) in self.tracks.iter().enumerate() {
                chart.draw_series([line(&track.points, series_colour(index).stroke_width(2 * UNITS))])?;
            }
            for lost in self.tracks.iter().flat_map(|t| &t.lost).filter(|p| p.iter().all(|v| v.is_finite())) {
                chart.draw_series([Cross::new((lost[0], lost[1]), 6 * UNITS as i32, INK.stroke_width(3 * UNITS))])?;
            }
            Ok(())
        });
        self.legend() + "\n" + &drawing
    }

    fn legend(&self) -> String {
        let mut legend = String::from("<ul class=\"legend\">");
        if !self.road.is_empty() {
            legend += "<li><i class=\"road\" style=\"border-color:var(--road)\"></i>road</li>";
        }
        for (index, track) in self.tracks.iter().enumerate() {
            let (colour, name) = (index % COLOURS, escape(&track.name));
            legend += &format!("<li><i style=\"border-color:var(--s{colour})\"></i>{name}</li>");
        }
        if self.tracks.iter().any(|t| !t.lost.is_empty()) {
            legend += "<li><i class=\"cross\">×</i>left the road</li>";
        }
        legend + "</ul>"
    }
}
