//! Streams that follow one another as one stream: their segments, groups and times are moved apart, their classes joined by name.

use super::fault::Counts;
use super::{Data, Label, Record, Source, SourceError};
use crate::sample::Micros;

/// Time between the last sample of a stream and the first of the next.
const PAUSE: u64 = 1_000_000;

/// Several sources, played one after another.
pub struct Chain {
    sources: Vec<Box<dyn Source>>,
    current: usize,
    names: Vec<String>,
    /// For each source, the number in `names` of each of its classes.
    classes: Vec<Vec<u32>>,
    /// What is added to segment, group and time of the current source.
    base: (u32, u32, u64),
    /// One more than the largest segment and group so far, and the time at which the next source may begin.
    next: (u32, u32, u64),
    /// `[height, width, channels]` or `[length, channels, 0]` of the first sample and the source it came from.
    shape: Option<([usize; 3], bool, usize)>,
}

impl Chain {
    /// Joins `sources`.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn Source>>) -> Chain {
        assert!(!sources.is_empty(), "a chain of no sources");
        let mut names: Vec<String> = Vec::new();
        let mut classes = Vec::new();
        for source in &sources {
            let mut map = Vec::new();
            for name in source.class_names() {
                let place = names.iter().position(|n| n == name).unwrap_or_else(|| {
                    names.push(name.clone());
                    names.len() - 1
                });
                map.push(place as u32);
            }
            classes.push(map);
        }
        Chain { sources, current: 0, names, classes, base: (0, 0, 0), next: (0, 0, 0), shape: None }
    }

    /// Image sets may hold images of many sizes, and sound clips of many lengths; kind and channels must agree, and windows
    /// of sensors in length too.
    fn check_shape(&mut self, record: &Record) -> Result<(), SourceError> {
        let (shape, image) = match &record.data {
            Data::Image { height, width, channels, .. } => ([*height, *width, *channels], true),
            Data::Window { length, channels, .. } => ([*length, *channels, 0], false),
        };
        let Some((first, first_image, source)) = self.shape else {
            self.shape = Some((shape, image, self.current));
            return Ok(());
        };
        let sound = self.sources[self.current].sound_rate();
        let like = if image { shape[2] == first[2] } else { shape == first || sound.is_some() };
        let fits = image == first_image && like && sound == self.sources[source].sound_rate();
        if fits {
            return Ok(());
        }
        let show = |s: [usize; 3], image| {
            if image { format!("images {}x{}x{}", s[1], s[0], s[2]) } else { format!("windows {} x {}", s[0], s[1]) }
        };
        let (path, other) = (self.sources[self.current].describe(), self.sources[source].describe());
        let problem = format!("{}, where '{other}' has {}", show(shape, image), show(first, first_image));
        Err(SourceError::file(&path, problem, "let only sources of one kind follow one another"))
    }
}

impl Source for Chain {
    fn describe(&self) -> String {
        self.sources.iter().map(|s| s.describe()).collect::<Vec<_>>().join("; then ")
    }

    fn len_hint(&self) -> Option<u64> {
        self.sources.iter().map(|s| s.len_hint()).sum()
    }

    fn read_next(&mut self, record: &mut Record) -> Result<bool, SourceError> {
        while let Some(source) = self.sources.get_mut(self.current) {
            if !source.read_next(record)? {
                self.current += 1;
                self.base = self.next;
                continue;
            }
            self.check_shape(record)?;
            record.segment = record.segment.wrapping_add(self.base.0);
            record.group = record.group.wrapping_add(self.base.1);
            record.time = Micros(record.time.0.saturating_add(self.base.2));
            self.next.0 = self.next.0.max(record.segment.wrapping_add(1));
            self.next.1 = self.next.1.max(record.group.wrapping_add(1));
            self.next.2 = self.next.2.max(record.time.0.saturating_add(PAUSE));
            if let Some(Label::Class(class)) = &mut record.label
                && let Some(joined) = self.classes[self.current].get(*class as usize)
            {
                *class = *joined;
            }
            return Ok(true);
        }
        Ok(false)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        for source in &mut self.sources {
            source.rewind()?;
        }
        self.current = 0;
        self.base = (0, 0, 0);
        self.next = (0, 0, 0);
        Ok(())
    }

    fn in_order(&self) -> bool {
        self.sources.iter().all(|s| s.in_order())
    }

    fn skipped(&self) -> u64 {
        self.sources.iter().map(|s| s.skipped()).sum()
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn injected(&self) -> Option<Counts> {
        self.sources.iter().filter_map(|s| s.injected()).reduce(Counts::and)
    }

    fn sound_rate(&self) -> Option<u32> {
        self.sources.first().and_then(|s| s.sound_rate())
    }
}
