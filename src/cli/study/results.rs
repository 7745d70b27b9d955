//! The rows of a study: a CSV file that grows with every cell, and the tables that are made of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cell::Place;
use super::matrix::{Budget, Set, Subject};

/// One cell, as it stands in the CSV file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub set: String,
    pub task: String,
    /// `integer` or `float`.
    pub arithmetic: String,
    pub budget: String,
    pub seed: u64,
    /// `percent` right, or `r2`.
    pub metric: String,
    /// Linear probe with all labels.
    pub headline: Option<f64>,
    pub knn: Option<f64>,
    pub ten_percent: Option<f64>,
    pub one_percent: Option<f64>,
    pub effective_rank: Option<f64>,
    pub loss_first: Option<f64>,
    pub loss_last: Option<f64>,
    /// Lessons that the guard undid.
    pub undone: Option<u64>,
    pub samples: Option<u64>,
    pub ram_bytes: Option<u64>,
    /// Of learning alone, and of the whole cell.
    pub learn_seconds: Option<f64>,
    pub seconds: f64,
    /// Why the cell cannot be, where it cannot.
    pub refused: String,
}

impl Row {
    pub fn new(set: &str, place: Place) -> Row {
        Row {
            set: set.into(),
            task: place.subject.name().into(),
            arithmetic: if place.float { "float" } else { "integer" }.into(),
            budget: place.budget.name().into(),
            seed: place.seed,
            ..Row::default()
        }
    }

    fn is_of(&self, set: &str, place: Place) -> bool {
        let other = Row::new(set, place);
        let key = |row: &Row| (row.set.clone(), row.task.clone(), row.arithmetic.clone(), row.budget.clone(), row.seed);
        key(self) == key(&other)
    }
}

/// The rows in the file at `path`; none where there is no file.
///
/// # Errors
/// A file that is not what this program writes.
pub fn read<R: DeserializeOwned>(path: &Path) -> Result<Vec<R>, Box<dyn Error>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(path)?;
    let rows = reader.deserialize().collect::<Result<_, _>>();
    Ok(rows
        .map_err(|e| format!("{}: {e}\n  what to do: move it away; it is no study of this version", path.display()))?)
}

/// Writes all rows of a file anew.
///
/// # Errors
/// Of the file.
pub fn write<R: Serialize>(path: &Path, rows: &[R]) -> Result<(), Box<dyn Error>> {
    let mut writer = csv::Writer::from_path(path)?;
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.flush()?)
}

/// Whether a cell is among `rows`.
pub fn holds(rows: &[Row], set: &str, place: Place) -> bool {
    rows.iter().any(|row| row.is_of(set, place))
}

/// Adds a row to the file in one write, so that two studies may share it.
///
/// # Errors
/// Those of the file.
pub fn append(path: &Path, row: &Row) -> Result<(), Box<dyn Error>> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let head = file.metadata()?.len() == 0;
    let mut writer = csv::WriterBuilder::new().has_headers(head).from_writer(Vec::new());
    let mut row = row.clone();
    for value in [&mut row.headline, &mut row.knn, &mut row.ten_percent, &mut row.one_percent] {
        *value = value.map(|v| (v * 1e4).round() / 1e4);
    }
    for value in [&mut row.effective_rank, &mut row.loss_first, &mut row.loss_last, &mut row.learn_seconds] {
        *value = value.map(|v| (v * 1e3).round() / 1e3);
    }
    row.seconds = (row.seconds * 1e3).round() / 1e3;
    writer.serialize(row)?;
    file.write_all(&writer.into_inner()?)?;
    Ok(())
}

/// Mean, and sample deviation where there are several.
fn mean(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (!values.is_empty()).then(|| (mean, (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt())))
}

/// The rows of one cell over its seeds.
struct Cell<'a>(Vec<&'a Row>);

impl Cell<'_> {
    fn of(&self, value: impl Fn(&Row) -> Option<f64>) -> Option<(f64, Option<f64>)> {
        mean(&self.0.iter().filter_map(|row| value(row)).collect::<Vec<_>>())
    }

    fn percent(&self) -> bool {
        self.0.iter().any(|row| row.metric == "percent")
    }

    /// A score with its spread; an en dash where there is none.
    fn score(&self, value: impl Fn(&Row) -> Option<f64>) -> String {
        let places = if self.percent() { 1 } else { 2 };
        match self.of(value) {
            None => "—".into(),
            Some((mean, None)) => format!("{mean:.places$}"),
            Some((mean, Some(spread))) => format!("{mean:.places$} ±{spread:.places$}"),
        }
    }

    fn number(&self, places: usize, value: impl Fn(&Row) -> Option<f64>) -> String {
        self.of(value).map_or("—".into(), |(mean, _)| format!("{mean:.places$}"))
    }

    fn refused(&self) -> Option<&str> {
        self.0.iter().map(|row| row.refused.as_str()).find(|reason| !reason.is_empty())
    }
}

/// A study's rows, to be shown.
pub struct Table<'a> {
    sets: &'a [Set],
    subjects: &'a [Subject],
    cells: BTreeMap<(String, String, bool), Cell<'a>>,
}

impl<'a> Table<'a> {
    pub fn new(rows: &'a [Row], budget: Budget, sets: &'a [Set], subjects: &'a [Subject]) -> Self {
        let mut cells: BTreeMap<_, Cell> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.budget == budget.name()) {
            let key = (row.set.clone(), row.task.clone(), row.arithmetic == "float");
            cells.entry(key).or_insert_with(|| Cell(Vec::new())).0.push(row);
        }
        Table { sets, subjects, cells }
    }

    fn cell(&self, set: &Set, subject: Subject, float: bool) -> Option<&Cell<'a>> {
        self.cells.get(&(set.name.clone(), subject.name().into(), float))
    }

    fn headline(&self, set: &Set, subject: Subject) -> String {
        self.cell(set, subject, false).map_or(String::new(), |cell| cell.score(|row| row.headline))
    }

    /// For a terminal: a line a task, a column a set.
    pub fn text(&self) -> String {
        let width = |set: &Set| set.name.len().max(13) + 2;
        let mut text = format!("{:<15}", "linear probe");
        self.sets.iter().for_each(|set| text += &format!("{:>1$}", set.name, width(set)));
        for subject in self.subjects {
            text += &format!("\n{:<15}", subject.name());
            self.sets.iter().for_each(|set| text += &format!("{:>1$}", self.headline(set, *subject), width(set)));
        }
        text
    }

    /// The same in Markdown, with a table of details for each set.
    pub fn markdown(&self, command: &str) -> String {
        let names = self.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(" | ");
        let mut text = format!(
            "Linear probe on frozen features: percent right, or R² of a value; mean over seeds ± their deviation. `{command}`\n\n\
             | task | {names} |\n|---|{}\n",
            "---|".repeat(self.sets.len())
        );
        for subject in self.subjects {
            let scores: Vec<_> = self.sets.iter().map(|set| self.headline(set, *subject)).collect();
            text += &format!("| {} | {} |\n", subject.name(), scores.join(" | "));
        }
        for set in self.sets {
            text += &self.details(set);
        }
        text
    }

    fn details(&self, set: &Set) -> String {
        let mut text = format!(
            "\n## {}\n\n{} Model `{}`.\n\n| task | linear | float twin | kNN | 10 % of the labels | 1 % | effective rank | loss | \
             undone | seconds | RAM |\n|---|{}\n",
            set.name,
            set.about,
            set.model,
            "---|".repeat(10)
        );
        let mut refused: Vec<(&str, &str)> = Vec::new();
        for subject in self.subjects {
            let Some(cell) = self.cell(set, *subject, false) else { continue };
            if let Some(reason) = cell.refused() {
                refused.push((subject.name(), reason));
            }
            let float = self.cell(set, *subject, true);
            let whole = |value: Option<u64>| value.map(|v| v as f64);
            text += &format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} to {} | {} | {} | {} |\n",
                subject.name(),
                cell.score(|row| row.headline),
                float.map_or("—".into(), |cell| cell.score(|row| row.headline)),
                cell.score(|row| row.knn),
                cell.score(|row| row.ten_percent),
                cell.score(|row| row.one_percent),
                cell.number(1, |row| row.effective_rank),
                cell.number(2, |row| row.loss_first),
                cell.number(2, |row| row.loss_last),
                cell.number(1, |row| whole(row.undone)),
                cell.number(1, |row| row.learn_seconds),
                cell.number(0, |row| whole(row.ram_bytes)),
            );
        }
        for (name, reason) in refused {
            text += &format!("\n`{name}`: {}\n", reason.replace('\n', " "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::task::Task;

    fn place(subject: Subject, seed: u64, float: bool) -> Place {
        Place { subject, seed, float, budget: Budget::Quick }
    }

    #[test]
    fn rows_are_added_one_by_one_found_again_and_shown_with_their_spread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.csv");
        assert!(read::<Row>(&path).unwrap().is_empty());
        let rotation = Subject::Task(Task::Rotation);
        for (seed, headline) in [(0, 60.0), (1, 62.0)] {
            let mut row = Row::new("signdigits", place(rotation, seed, false));
            (row.metric, row.headline) = ("percent".into(), Some(headline));
            append(&path, &row).unwrap();
        }
        let mut row = Row::new("signdigits", place(Subject::Dictionary, 0, false));
        row.refused = "no, \"never\"\nask why".into();
        append(&path, &row).unwrap();
        let rows = read::<Row>(&path).unwrap();
        assert!(holds(&rows, "signdigits", place(rotation, 1, false)));
        assert!(!holds(&rows, "signdigits", place(rotation, 1, true)));
        assert!(!holds(&rows, "signdigits", place(rotation, 2, false)));
        let sets = super::super::matrix::sets(&["signdigits".into()], Path::new("/d")).unwrap();
        let subjects = [Subject::Dictionary, rotation];
        let table = Table::new(&rows, Budget::Quick, &sets, &subjects);
        assert!(table.text().contains("61.0 ±1.4"), "{}", table.text());
        let markdown = table.markdown("x");
        assert!(markdown.contains("| rotation | 61.0 ±1.4 | — |"), "{markdown}");
        assert!(markdown.contains("`dictionary`: no, \"never\" ask why"), "{markdown}");
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(read::<Row>(&path).unwrap_err().to_string().contains("move it away"));
    }
}
