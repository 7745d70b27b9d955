//! Line charts: a quantity over samples or time, one line a series.

use plotters::prelude::*;

use super::axes::{COLOURS, UNITS, frame, range, series_colour, svg};
use super::html::escape;

/// Several series over one pair of axes. Axis names carry their unit: `samples`, `cross-track error (m)`.
#[derive(Clone, Debug, Default)]
pub struct LineChart {
    pub title: String,
    pub caption: String,
    pub x_axis: String,
    pub y_axis: String,
    pub series: Vec<Series>,
}

/// One named line through `[x, y]` points in order; points that are not finite leave a gap.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub name: String,
    pub points: Vec<[f64; 2]>,
}

/// Beyond this many, points are thinned to the smallest and largest of each stretch.
const MOST_POINTS: usize = 1200;

/// Dashes, so that lines differ by more than colour: points of dash and gap, and the name in the style sheet.
const DASHES: [(u32, u32, &str); 3] = [(0, 0, "solid"), (8, 5, "dashed"), (3, 4, "dotted")];

impl LineChart {
    pub(super) fn html(&self) -> String {
        let all = || self.series.iter().flat_map(|s| &s.points).filter(|p| p.iter().all(|v| v.is_finite()));
        let (Some(x), Some(y)) = (range(all().map(|p| p[0]), 0.01), range(all().map(|p| p[1]), 0.06)) else {
            return "<p class=\"empty\">No data.</p>".to_owned();
        };
        let mut legend = String::from("<ul class=\"legend\">");
        for (index, series) in self.series.iter().enumerate() {
            let (colour, dash) = (index % COLOURS, DASHES[index % DASHES.len()].2);
            let name = escape(&series.name);
            legend += &format!("<li><i class=\"{dash}\" style=\"border-color:var(--s{colour})\"></i>{name}</li>");
        }
        legend += "</ul>";
        let label = format!("{}: {} over {}", self.title, self.y_axis, self.x_axis);
        let drawing = svg(340, &label, |area| {
            let mut chart = frame(area, (x, y), (&self.x_axis, &self.y_axis))?;
            for (index, series) in self.series.iter().enumerate() {
                let style = series_colour(index).stroke_width(2 * UNITS);
                let (dash, gap, _) = DASHES[index % DASHES.len()];
                for piece in series.points.split(|p| !p.iter().all(|v| v.is_finite())) {
                    let points = thinned(piece).into_iter().map(|[x, y]| (x, y));
                    if dash == 0 {
                        chart.draw_series(LineSeries::new(points, style))?;
                    } else {
                        chart.draw_series(DashedLineSeries::new(points, dash * UNITS, gap * UNITS, style))?;
                    }
                }
            }
            Ok(())
        });
        legend + "\n" + &drawing
    }
}

fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    let ends = |part: &[[f64; 2]]| {
        let by_y = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
        let (low, high) = (part.iter().min_by(by_y).copied(), part.iter().max_by(by_y).copied());
        let mut ends: Vec<[f64; 2]> = low.into_iter().chain(high).collect();
        ends.sort_by(|a, b| a[0].total_cmp(&b[0]));
        ends
    };
    points.chunks(stretch).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_peaks_and_bounds_the_size() {
        let mut points: Vec<[f64; 2]> = (0..100_000).map(|i| [f64::from(i), 0.0]).collect();
        points[77_777][1] = 9.0;
        let few = thinned(&points);
        assert!(few.len() <= MOST_POINTS && few.contains(&[77_777.0, 9.0]));
    }

    #[test]
    fn a_chart_without_finite_points_says_so() {
        let series = Series { name: "loss".into(), points: vec![[0.0, f64::NAN]] };
        assert!(LineChart { series: vec![series], ..LineChart::default() }.html().contains("No data"));
    }
}
