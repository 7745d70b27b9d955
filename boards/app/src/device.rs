//! The loop of a board: [`Device::poll`], for ever.

use core::fmt::{self, Write as _};
use core::ops::Range;

use embassy_futures::block_on;
use embedded_io::{Read, ReadReady, Write};
use embedded_storage_async::nor_flash::NorFlash;
use heapless::String;
use nestling::flash::FlashStore;
use nestling::image::{Image, ImageError};
use nestling::kernels::Kernels;
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::link::{
    self, Bytes, Deframer, Feature, Health, Hello, Memory, RawSample, Shape, StateHash, ToDevice, ToHost, Wear,
};
use nestling::sample::Micros;
use nestling::state;
use serde::Serialize;

use crate::newest::Newest;
use crate::{Firmware, Input};

/// Name and version, as `Hello` says them.
const FIRMWARE: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Bytes taken from the port at a time.
const PIECE: usize = 32;

/// Bytes that pass to and from the flash at a time.
const CHUNK: usize = 256;

/// What a board brings.
pub struct Parts<P, I, F> {
    pub firmware: Firmware,
    /// The link's bytes, in and out.
    pub port: P,
    pub input: I,
    /// Where the state is kept: a flash and the bytes of it that are free, in whole pages.
    pub flash: F,
    pub range: Range<u32>,
    /// What the firmware takes in all, and how much of the stack was used until now.
    pub memory: Memory,
    pub stack_used: fn() -> usize,
    /// Starts the board anew.
    pub reset: fn() -> !,
}

/// See the module.
pub struct Device<P, I, F: NorFlash> {
    learner: &'static mut Learner<'static>,
    deframer: Deframer,
    /// Where a frame is put together; on a board whose samples come over the link that is the learner's inbox.
    frame: &'static mut [u8],
    feature: &'static mut [i8],
    input: I,
    /// `None` where it could not be opened, or was erased for a restart.
    store: Option<FlashStore<F>>,
    range: Range<u32>,
    reset: fn() -> !,
    host: Host<P>,
    /// The host wants each sample before it is learned from.
    recording: bool,
    frozen: bool,
    finished: bool,
}

/// The way to the host.
struct Host<P> {
    port: P,
    board: &'static str,
    /// Of the image: the model as it is written there, seed and expected samples.
    spec: &'static [u8],
    options: Options,
    memory: Memory,
    stack_used: fn() -> usize,
}

impl<P: Write> Host<P> {
    /// A port that fails is no reason to stop learning: what it cannot carry is lost, as the host sees.
    fn say(&mut self, message: &impl Serialize) {
        let _ = link::send(message, |piece| self.port.write_all(piece));
    }

    fn log(&mut self, line: &dyn fmt::Display) {
        let mut text: String<160> = String::new();
        // A longer line is cut off.
        let _ = write!(text, "{line}");
        self.say(&ToHost::Log(&text));
    }

    fn hello(&mut self, learner: &Learner) {
        self.say(&ToHost::Hello(Hello {
            protocol: link::PROTOCOL,
            firmware: FIRMWARE,
            board: self.board,
            kernels: self.options.kernels.name(),
            spec: Bytes(self.spec),
            seed: self.options.seed.0,
            expected_samples: self.options.expected_samples,
            samples: learner.counters().observed,
            memory: self.memory,
        }));
    }

    fn health(&mut self, health: Health) {
        let stack_peak = (self.stack_used)() as u32;
        self.say(&ToHost::Health(Health { stack_peak, ..health }));
    }

    #[inline(never)]
    fn hash(&mut self, learner: &mut Learner, finished: bool) {
        let hash = state::hash(learner);
        self.say(&ToHost::Hash(StateHash { samples: learner.counters().observed, finished, hash }));
    }
}

impl<P: Read + ReadReady + Write, I: Input, F: NorFlash> Device<P, I, F> {
    /// A device whose learner is as the flash has it, or as the image has it where nothing was learned from that yet. It
    /// says `Hello`.
    ///
    /// A flash that cannot be used is told to the host; the device then learns without keeping anything.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn new(parts: Parts<P, I, F>) -> Result<Self, ImageError> {
        let Parts { firmware, port, input, flash, range, memory, stack_used, reset } = parts;
        let Firmware { board, kernels, image, learner, block, frame, feature } = firmware;
        let Begun { learner, spec, options, checksum } = begin(image, kernels, learner, block)?;
        let mut device = Device {
            learner,
            deframer: Deframer::default(),
            frame,
            feature,
            input,
            store: None,
            range,
            reset,
            host: Host { port, board, spec, options, memory, stack_used },
            recording: false,
            frozen: false,
            finished: false,
        };
        device.open(flash, checksum);
        device.greet();
        Ok(device)
    }

    /// Opens the store and takes up what was learned before the power went.
    #[inline(never)]
    fn open(&mut self, flash: F, image: u32) {
        let mut chunk = [0; CHUNK];
        let opened = FlashStore::open(flash, self.range.clone(), image, &mut chunk);
        let restored = opened.and_then(|mut store| {
            store.restore(self.learner, &mut chunk)?;
            Ok(store)
        });
        match restored {
            Ok(store) => self.store = Some(store),
            Err(problem) => self.host.log(&problem),
        }
    }

    #[inline(never)]
    fn greet(&mut self) {
        self.host.hello(self.learner);
        self.ready();
    }

    fn ready(&mut self) {
        if I::LINK && !self.finished {
            self.host.say(&ToHost::Ready);
        }
    }

    /// Does what is due. `true`: there was something; `false`: the board may sleep until its next interrupt.
    #[inline(never)]
    pub fn poll(&mut self) -> bool {
        let heard = self.hear();
        if self.finished {
            return heard;
        }
        // The input is lent to its sample while the rest of the device takes that in.
        let Device { learner, feature, input, host, .. } = self;
        let Some(sample) = input.next() else { return heard };
        if self.recording {
            host.say(&ToHost::Sample(RawSample::new(learner.counters().observed, &sample)));
        }
        if let Err(problem) = learner.hold(&sample) {
            host.log(&problem);
            return true;
        }
        let mut taker = Taker { learner, feature, host, frozen: self.frozen };
        let ended = taker.take(sample.time, sample.segment);
        self.after(ended);
        true
    }

    /// The host asked for the end, and has it.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Hears what has arrived. Whether anything had.
    fn hear(&mut self) -> bool {
        let mut heard = false;
        while let Ok(true) = self.host.port.read_ready() {
            let mut piece = [0; PIECE];
            let Ok(count) = self.host.port.read(&mut piece) else { break };
            heard = true;
            for &byte in &piece[..count] {
                // A board whose learner lends its inbox perceives and learns in `answer` alone: between two frames.
                if self.deframer.push(byte, buffer::<I>(self.learner, self.frame)) {
                    self.answer();
                }
            }
        }
        heard
    }

    #[inline(never)]
    fn answer(&mut self) {
        let Device { learner, deframer, frame, feature, host, recording, frozen, finished, .. } = self;
        let (number, model) = (learner.counters().observed, Shape::of(learner));
        let buffer = buffer::<I>(learner, frame);
        let start = buffer.as_ptr().addr();
        let Some(message) = deframer.to_device(buffer) else { return };
        match message {
            ToDevice::Hello => self.greet(),
            ToDevice::Sample(raw) => {
                if !I::LINK || *finished {
                    return host.log(&"this board takes no sample over the link now");
                }
                let Some(sample) = raw.sample() else {
                    host.log(&"the sample has another number of values than its shape says");
                    return self.ready();
                };
                if raw.shape != model {
                    host.log(&"the sample has another shape than the model's input");
                    return self.ready();
                }
                if *recording {
                    host.say(&ToHost::Sample(RawSample::new(number, &sample)));
                }
                let at = raw.values.0.as_ptr().addr() - start;
                let (values, time, segment) = (at..at + raw.values.0.len(), sample.time, sample.segment);
                if let Err(problem) = learner.hold_inbox(values) {
                    host.log(&problem);
                    return self.ready();
                }
                let mut taker = Taker { learner, feature, host, frozen: *frozen };
                let ended = taker.take(time, segment);
                self.after(ended);
                self.ready();
            }
            ToDevice::Record(on) => *recording = on,
            ToDevice::Hash => host.hash(learner, *finished),
            ToDevice::Save => self.save(),
            ToDevice::Freeze => *frozen = true,
            ToDevice::Thaw => *frozen = false,
            ToDevice::Finish => {
                if !*finished {
                    learner.finish();
                }
                *finished = true;
                self.health();
                self.host.hash(self.learner, true);
            }
            ToDevice::Restart => self.restart(),
        }
    }

    fn health(&mut self) {
        let wear = self.store.as_mut().map_or_else(Wear::default, FlashStore::wear);
        self.host.health(Health { frames_dropped: self.deframer.dropped(), wear, ..Health::new(self.learner) });
    }

    /// A lesson that ended is told, and one that was published is kept.
    fn after(&mut self, ended: Ended) {
        match ended {
            Ended::Nothing => {}
            Ended::Undone => self.health(),
            Ended::Published => self.save(),
        }
    }

    fn save(&mut self) {
        if let Some(Err(problem)) = self.store.as_mut().map(|store| store.save(self.learner, &mut [0; CHUNK])) {
            self.host.log(&problem);
        }
        self.health();
    }

    /// Forgets what was learned since flashing.
    #[inline(never)]
    fn restart(&mut self) {
        if let Some(store) = self.store.take() {
            let Range { start, end } = self.range;
            if let Err(problem) = block_on(store.into_inner().erase(start, end)) {
                self.host.log(&format_args!("the flash cannot be erased: {problem:?}"));
                return;
            }
        }
        (self.reset)()
    }
}

/// Where frames are put together.
fn buffer<'b, I: Input>(learner: &'b mut Learner, frame: &'b mut [u8]) -> &'b mut [u8] {
    if I::LINK { learner.inbox() } else { frame }
}

/// A learner as the image has it, and what is told of the image later.
struct Begun {
    learner: &'static mut Learner<'static>,
    spec: &'static [u8],
    options: Options,
    checksum: u32,
}

/// Makes the learner in its place. This takes more stack than all that follows, which must not carry it.
#[inline(never)]
fn begin(
    image: &'static [u8],
    kernels: Kernels,
    place: &'static mut Option<Learner<'static>>,
    block: &'static mut [u8],
) -> Result<Begun, ImageError> {
    let image = Image::parse(image)?;
    let options = image.board_options(kernels);
    let learner = image.learner(&options, block, place)?;
    Ok(Begun { learner, spec: image.spec_bytes(), options, checksum: image.checksum() })
}

/// What became of the lessons while a sample was learned from.
enum Ended {
    Nothing,
    Undone,
    Published,
}

/// The parts of a device that take in a sample.
struct Taker<'a, P> {
    learner: &'a mut Learner<'static>,
    feature: &'a mut [i8],
    host: &'a mut Host<P>,
    frozen: bool,
}

impl<P: Write> Taker<'_, P> {
    /// Perceives the sample that the learner holds, sends its feature, and learns from it.
    #[inline(never)]
    fn take(&mut self, time: Micros, segment: u32) -> Ended {
        self.perceive(time, segment);
        let mut ended = Ended::Nothing;
        while !self.frozen {
            match self.learner.step(&Alone) {
                Did::Idle => break,
                Did::Trained { .. } => {}
                Did::Published { .. } => ended = Ended::Published,
                // A board without canaries, as all are, has no checksums and finds no damage.
                Did::Undone { .. } | Did::Damaged { .. } => ended = Ended::Undone,
            }
        }
        ended
    }

    fn perceive(&mut self, time: Micros, segment: u32) {
        if !self.frozen {
            self.learner.observe_held(time, segment);
        }
        if !self.feature.is_empty() {
            self.learner.perceive_held(self.feature);
            return self.host.say(&ToHost::Feature(Feature::new(self.learner, time, self.feature)));
        }
        if self.frozen {
            self.learner.perceive_newest_held();
        }
        self.host.say(&Newest { learner: self.learner, time });
    }
}

#[cfg(test)]
mod tests;
