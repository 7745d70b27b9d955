//! The page around the figures.

use super::{Figure, Holds, Made, Report, Run, Section};

/// No script, no frame, nothing from outside: the browser is told so too.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

pub(super) fn page(report: &Report) -> String {
    let title = escape(&report.title);
    let style = include_str!("style.css");
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n\
         <p class=\"lead\">{}</p>\n",
        escape(&report.summary)
    );
    if !report.verdicts.is_empty() {
        out += "<ul class=\"verdicts\">\n";
        for verdict in &report.verdicts {
            let (class, word) = match verdict.holds {
                Holds::Yes => ("yes", "✓ yes"),
                Holds::No => ("no", "✗ no"),
                Holds::Unclear => ("unclear", "? unclear"),
            };
            out += &format!("<li class=\"{class}\"><b>{word}</b><span>{}</span></li>\n", escape(&verdict.text));
        }
        out += "</ul>\n";
    }
    out += "</header>\n";
    if !report.runs.is_empty() {
        out += &table(&report.runs);
    }
    report.sections.iter().for_each(|section| out += &section_html(section));
    out + &footer(&report.made) + "</main>\n</body>\n</html>\n"
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}

/// A column: its heading, what it means, its cell and whether small or large is good.
type Column = (&'static str, &'static str, fn(&Run) -> f64, Option<bool>, usize);

const COLUMNS: [Column; 4] = [
    ("steering error", "mean absolute, lock = 1", |r| r.steering_mae, Some(false), 3),
    ("cross-track error", "mean, m", |r| r.cross_track_error, Some(false), 3),
    ("laps completed", "", |r| r.laps_completed, Some(true), 1),
    ("labels", "frames", |r| r.labels as f64, None, 0),
];

fn table(runs: &[Run]) -> String {
    let mut out = String::from("<section>\n<h2>How it drove</h2>\n<div class=\"scroll\"><table>\n");
    out += "<caption>● best of the column, where they differ</caption>\n<thead><tr><th>features</th>";
    for (name, unit, ..) in COLUMNS {
        out += &format!("<th>{name}<small>{unit}</small></th>");
    }
    out += "</tr></thead>\n<tbody>\n";
    for run in runs {
        out += &format!("<tr><th scope=\"row\">{}</th>", escape(&run.name));
        for (_, _, cell, large_is_good, places) in COLUMNS {
            let shown = |run: &Run| format!("{:.places$}", cell(run));
            let others = || runs.iter().map(cell).filter(|v| v.is_finite());
            let best = match large_is_good {
                Some(true) => others().reduce(f64::max),
                Some(false) => others().reduce(f64::min),
                None => None,
            };
            // What reads alike is alike: no winner by a digit that is not shown.
            let differ = runs.iter().any(|other| shown(other) != shown(run));
            let wins = differ && best.is_some_and(|b| format!("{b:.places$}") == shown(run));
            let text = if cell(run).is_finite() { shown(run) } else { "\u{2013}".to_owned() };
            out += &format!("<td class=\"{}\">{text}</td>", if wins { "best" } else { "plain" });
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table></div>\n</section>\n"
}

fn section_html(section: &Section) -> String {
    let mut out = format!("<section>\n<h2>{}</h2>\n", escape(&section.heading));
    section.paragraphs.iter().for_each(|text| out += &format!("<p>{}</p>\n", escape(text)));
    for figure in &section.figures {
        let (title, caption, body) = match figure {
            Figure::Pictures(strip) => (&strip.title, &strip.caption, strip.html()),
            Figure::Lines(chart) => (&chart.title, &chart.caption, chart.html()),
            Figure::Scatter(chart) => (&chart.title, &chart.caption, chart.html()),
            Figure::Map(map) => (&map.title, &map.caption, map.html()),
        };
        out += "<figure>\n";
        if !title.is_empty() {
            out += &format!("<h3>{}</h3>\n", escape(title));
        }
        out += &body;
        if !caption.is_empty() {
            out += &format!("\n<figcaption>{}</figcaption>", escape(caption));
        }
        out += "\n</figure>\n";
    }
    out + "</section>\n"
}

fn footer(made: &Made) -> String {
    let seed = made.seed.to_string();
    let fixed =
        [("command", &made.command), ("seed", &seed), ("version", &made.version), ("state hash", &made.state_hash)];
    let mut out = String::from("<footer>\n<h2>How this was made</h2>\n<dl>\n");
    for (name, value) in fixed.into_iter().filter(|(_, value)| !value.is_empty()) {
        out += &format!("<dt>{name}</dt><dd><code>{}</code></dd>\n", escape(value));
    }
    for (name, value) in &made.details {
        out += &format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value));
    }
    out + "</dl>\n<p>The same command, seed and version learn the same state hash on any machine.</p>\n</footer>\n"
}
