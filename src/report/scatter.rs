//! Scatter charts: features in the plane, coloured by a value.

use plotters::prelude::*;

use super::axes::{UNITS, frame, range, svg, tick};
use super::html::escape;

/// Dots over one pair of axes with a colour bar.
#[derive(Clone, Debug, Default)]
pub struct Scatter {
    pub title: String,
    pub caption: String,
    pub x_axis: String,
    pub y_axis: String,
    /// What the colour says, with its unit.
    pub value: String,
    pub dots: Vec<Dot>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dot {
    pub place: [f64; 2],
    pub value: f64,
}

/// Beyond this many, every n-th dot is drawn.
const MOST_DOTS: usize = 1500;

/// Blue, grey, orange: apart for every kind of colour vision, on light and on dark ground.
const TWO_SIDED: [[f64; 3]; 3] = [[22.0, 116.0, 214.0], [150.0, 152.0, 150.0], [235.0, 120.0, 10.0]];
/// Dark violet to yellow by way of teal, as viridis, without its darkest and lightest ends.
const ONE_SIDED: [[f64; 3]; 3] = [[98.0, 74.0, 168.0], [42.0, 150.0, 142.0], [220.0, 190.0, 40.0]];

impl Scatter {
    pub(super) fn html(&self) -> String {
        let finite = |d: &&Dot| d.value.is_finite() && d.place.iter().all(|v| v.is_finite());
        let dots: Vec<&Dot> = self.dots.iter().filter(finite).collect();
        let of = |axis: usize| range(dots.iter().map(|d| d.place[axis]), 0.04);
        let (Some(x), Some(y)) = (of(0), of(1)) else { return "<p class=\"empty\">No data.</p>".to_owned() };
        let (low, high, map) = scale(dots.iter().map(|d| d.value));
        let label = format!("{}: {} over {}, coloured by {}", self.title, self.y_axis, self.x_axis, self.value);
        let step = dots.len().div_ceil(MOST_DOTS).max(1);
        let drawing = svg(440, &label, |area| {
            let mut chart = frame(area, (x, y), (&self.x_axis, &self.y_axis))?;
            chart.draw_series(dots.iter().step_by(step).map(|d| {
                let [r, g, b] = colour(map, (d.value - low) / (high - low));
                Circle::new((d.place[0], d.place[1]), 3 * UNITS as i32, RGBColor(r, g, b).mix(0.8).filled())
            }))?;
            Ok(())
        });
        self.bar(low, high, map) + "\n" + &drawing
    }

    fn bar(&self, low: f64, high: f64, map: &[[f64; 3]; 3]) -> String {
        let stops: Vec<String> = map.iter().map(|[r, g, b]| format!("rgb({r},{g},{b})")).collect();
        let ticks = [low, 0.5 * (low + high), high].map(|v| format!("<span>{}</span>", tick(rounded(v, high - low))));
        format!(
            "<div class=\"bar\"><span>{}</span><i style=\"background:linear-gradient(90deg,{})\"></i><div>{}</div></div>",
            escape(&self.value),
            stops.join(","),
            ticks.concat()
        )
    }
}

/// Ends and map of the colours: two-sided about zero where values lie on both sides of it.
fn scale(values: impl Iterator<Item = f64>) -> (f64, f64, &'static [[f64; 3]; 3]) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low < 0.0 && high > 0.0 {
        let most = high.max(-low);
        (-most, most, &TWO_SIDED)
    } else if high > low {
        (low, high, &ONE_SIDED)
    } else {
        (low - 0.5, low + 0.5, &ONE_SIDED)
    }
}

fn colour(map: &[[f64; 3]; 3], at: f64) -> [u8; 3] {
    let place = 2.0 * at.clamp(0.0, 1.0);
    let (from, share) = if place < 1.0 { (0, place) } else { (1, place - 1.0) };
    [0, 1, 2].map(|c| (map[from][c] + share * (map[from + 1][c] - map[from][c])).round() as u8)
}

/// Three significant digits of the span: the middle of a bar needs no more.
fn rounded(value: f64, span: f64) -> f64 {
    let unit = 10_f64.powf(span.log10().floor() - 2.0);
    let rounded = (value / unit).round() * unit;
    if rounded.is_finite() { rounded } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_grey_where_values_lie_on_both_sides() {
        let (low, high, map) = scale([-0.2, 0.7].into_iter());
        assert_eq!((low, high), (-0.7, 0.7));
        assert_eq!(colour(map, 0.5), [150, 152, 150]);
        assert_eq!(colour(map, 9.0), [235, 120, 10]);
    }
}
