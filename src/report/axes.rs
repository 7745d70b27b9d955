//! What all charts share: the frame, its ticks, ranges that make sense, colours that follow the page.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Width of a chart in points; the page scales it.
pub(super) const WIDTH: u32 = 760;
/// Units to a point: drawing places things at whole units, so finer ones give smooth lines.
pub(super) const UNITS: u32 = 4;

/// Colours with a meaning instead of a value: after drawing, each is replaced by a variable of the page's style.
pub(super) const INK: RGBColor = RGBColor(1, 2, 0);
pub(super) const SOFT: RGBColor = RGBColor(1, 2, 1);
pub(super) const LINE: RGBColor = RGBColor(1, 2, 2);
pub(super) const GRID: RGBColor = RGBColor(1, 2, 3);
pub(super) const ROAD: RGBColor = RGBColor(1, 2, 4);
const NAMED: [(&str, &str); 5] = [
    ("#010200", "var(--ink)"),
    ("#010201", "var(--soft)"),
    ("#010202", "var(--line)"),
    ("#010203", "var(--grid)"),
    ("#010204", "var(--road)"),
];

/// Number of series colours; further series use them again with another dash.
pub(super) const COLOURS: usize = 6;

/// The stand-in for series colour `index`.
pub(super) fn series_colour(index: usize) -> RGBColor {
    RGBColor(1, 3, (index % COLOURS) as u8)
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws into an SVG of `WIDTH` x `height` points whose colours follow the page.
pub(super) fn svg(height: u32, label: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let (width, height) = (WIDTH * UNITS, height * UNITS);
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area).and_then(|()| area.present())
    };
    if drawn.is_err() {
        return "<p class=\"empty\">This chart could not be drawn.</p>".to_owned();
    }
    let size = format!("<svg width=\"{width}\" height=\"{height}\"");
    let mut text = text.replacen(&size, &format!("<svg role=\"img\" aria-label=\"{}\"", super::html::escape(label)), 1);
    for (stand_in, variable) in NAMED {
        text = text.replace(stand_in, variable);
    }
    for index in 0..COLOURS {
        text = text.replace(&format!("#01030{index}"), &format!("var(--s{index})"));
    }
    format!("<div class=\"scroll chart\">{}</div>", text.trim())
}

/// A frame with ticks and the names of both axes.
pub(super) fn frame<'a, 'b>(
    area: &'a Area<'b>,
    (x, y): (Range<f64>, Range<f64>),
    (x_name, y_name): (&str, &str),
) -> Result<Plane<'a, 'b>, DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(10 * UNITS)
        .margin_right(22 * UNITS)
        .x_label_area_size(46 * UNITS)
        .y_label_area_size(62 * UNITS)
        .build_cartesian_2d(x, y)?;
    let text = |size: i32, colour: &'static RGBColor| {
        TextStyle::from(("system-ui, sans-serif", size * UNITS as i32).into_font()).color(colour)
    };
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|v| tick(*v))
        .y_label_formatter(&|v| tick(*v))
        .x_desc(x_name)
        .y_desc(y_name)
        .axis_style(LINE.stroke_width(UNITS))
        .bold_line_style(GRID.stroke_width(UNITS))
        .set_all_tick_mark_size(5 * UNITS as i32)
        .light_line_style(TRANSPARENT)
        .label_style(text(13, &SOFT))
        .axis_desc_style(text(14, &INK))
        .draw()?;
    Ok(chart)
}

/// The range of `values` with a little room; `None` where no value is finite.
pub(super) fn range(values: impl Iterator<Item = f64>, room: f64) -> Option<Range<f64>> {
    let finite = values.filter(|v| v.is_finite() && v.abs() < 1e300);
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return None;
    }
    let span = high - low;
    // Nothing changes: show it in the middle instead of magnifying its last digit.
    let room = if span <= 1e-9 * low.abs().max(high.abs()) { low.abs().max(1.0) * 0.5 } else { room * span };
    Some(low - room..high + room)
}

/// A number as short as a tick may be: `12k`, `0.25`, `-1`, `3e-7`.
pub(super) fn tick(value: f64) -> String {
    let size = value.abs();
    let (value, unit) = match size {
        s if s < 1e-12 => return "0".to_owned(),
        s if !(1e-4..1e12).contains(&s) => return format!("{value:.0e}"),
        s if s >= 1e9 => (value / 1e9, "G"),
        s if s >= 1e6 => (value / 1e6, "M"),
        s if s >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", short.replace('-', "\u{2212}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        let shown = [0.0, 0.1 + 0.2, -1.0, 250.0, 9000.0, 25_600.0, 2_000_000.0, 3e-7].map(tick);
        assert_eq!(shown, ["0", "0.3", "−1", "250", "9000", "25.6k", "2M", "3e-7"]);
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(range([f64::NAN].into_iter(), 0.1), None);
        for values in [[0.0, 0.0], [5.0, 5.0], [-1e20, -1e20], [1.0, 2.0]] {
            let range = range(values.into_iter(), 0.05).unwrap();
            assert!(range.start < range.end && range.start.is_finite() && range.end.is_finite());
        }
    }
}
