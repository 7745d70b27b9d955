//! What criterion does not tell: products and steps as a share of the multiply-add ceiling measured in the same run,
//! perception's latency while learning goes on, threads, and how cost grows. Writes its sections of
//! `docs/performance.md`. `cargo bench --bench performance`

mod works;

use works::mobilenet;

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nestling::kernels::Kernels;
use nestling::kernels::tile::Tile;
use nestling::learner::{Alone, Did, Join, Learner};
use nestling::net::spec::Spec;
use nestling::runtime::Pool;
use nestling::runtime::perceiver::Exchange;

/// Median of the seconds that `work` takes, in rounds of at least a millisecond.
fn median(budget: Duration, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    work();
    let calls = (1e-3 / begun.elapsed().as_secs_f64().max(1e-9)).ceil().max(1.0) as usize;
    let mut rounds = Vec::new();
    let begun = Instant::now();
    while rounds.len() < 5 || begun.elapsed() < budget {
        let round = Instant::now();
        (0..calls).for_each(|_| work());
        rounds.push(round.elapsed().as_secs_f64() / calls as f64);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Multiply-adds a second of each ceiling.
fn ceilings(tile: Tile) -> Vec<(&'static str, f64)> {
    let measured = tile.ceilings().iter().map(|ceiling| {
        let mut macs = 0;
        let seconds = median(Duration::from_millis(300), || macs = ceiling.run(100_000));
        (ceiling.instructions, macs as f64 / seconds)
    });
    measured.collect()
}

/// Each tile that this processor has, the fastest first; portable code is not worth a table.
fn kernels() -> String {
    let tiles = Tile::all();
    tiles[1.min(tiles.len() - 1)..].iter().rev().map(|&tile| kernels_of(tile)).collect::<Vec<_>>().join("\n")
}

fn kernels_of(tile: Tile) -> String {
    let mut text = format!("**{}**, one core\n\n", tile.name());
    let (way, ceilings) = (Kernels::Packed(tile), ceilings(tile));
    for (instructions, rate) in &ceilings {
        let _ = writeln!(
            text,
            "- ceiling by registers alone, {instructions}: **{:.1} G** multiply-adds a second",
            rate / 1e9
        );
    }
    let share = |rate: f64| match ceilings.first() {
        Some((_, ceiling)) => format!("{:.1} ({:.2})", rate / 1e9, rate / ceiling),
        None => format!("{:.1}", rate / 1e9),
    };
    text += "\nG multiply-adds a second, narrowing included, and in brackets the share of the first ceiling:\n\n\
         | layer | forward | weight gradient | input gradient |\n|---|---|---|---|\n";
    for layer in works::layers() {
        let mut bench = works::Bench::new(way, &layer);
        let macs = bench.macs() as f64;
        let budget = Duration::from_millis(150);
        let forward = macs / median(budget, || bench.forward());
        let weight_grad = macs / median(budget, || bench.weight_grad());
        let input_grad = macs / median(budget, || bench.input_grad());
        let _ =
            writeln!(text, "| {} | {} | {} | {} |", layer.name, share(forward), share(weight_grad), share(input_grad));
    }
    text += "\n| whole step, or feature | ms | G multiply-adds | rate |\n|---|---|---|---|\n";
    let with_views = Spec { views: Default::default(), ..works::w(64) };
    let steps = [("W", works::w(64)), ("V", works::w(1)), ("W with SimCLR views", with_views)];
    let shipped = ["l100", "robot", "motion"].map(|name| (name, works::shipped(name)));
    let mut row = |name: &str, seconds: f64, macs: f64| {
        let _ = writeln!(text, "| {name} | {:.3} | {:.3} | {} |", seconds * 1e3, macs / 1e9, share(macs / seconds));
    };
    for (name, spec) in steps.into_iter().chain(shipped) {
        let step = step(&spec, 1, way, &Alone, Duration::from_secs(1));
        row(name, step.seconds, step.macs);
    }
    let pixels: Vec<u8> = (0..mobilenet::SIDE * mobilenet::SIDE * 3).map(|i| (i * 37 % 251) as u8).collect();
    let mut net = mobilenet::MobileNet::new(way, &pixels);
    let seconds = median(Duration::from_secs(1), || {
        std::hint::black_box(net.feature(std::hint::black_box(&pixels)));
    });
    row("M, a feature", seconds, net.macs() as f64);
    text
}

struct Step {
    seconds: f64,
    macs: f64,
    ram: usize,
}

/// Median time of a step of `spec`.
fn step(spec: &Spec, lanes: usize, way: Kernels, join: &impl Join, budget: Duration) -> Step {
    let options = works::options(lanes, way);
    let plan = Learner::plan(spec, &options).expect("a sound model");
    let mut memory = vec![0; plan.block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("a sound model");
    let mut stream = works::Stream::new(spec);
    works::warm_up(&mut learner, &mut stream, join);
    let mut took = Vec::new();
    let begun = Instant::now();
    while took.len() < 5 || begun.elapsed() < budget {
        learner.observe(&stream.sample()).expect("the stream fits its model");
        let step = Instant::now();
        if matches!(learner.step(join), Did::Trained { .. }) {
            took.push(step.elapsed().as_secs_f64());
        }
    }
    took.sort_by(f64::total_cmp);
    Step { seconds: took[took.len() / 2], macs: plan.macs_step as f64, ram: plan.ram_bytes }
}

fn threads() -> String {
    let mut text = String::from("| threads | W, ms | l100, ms | V, ms |\n|---|---|---|---|\n");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    for threads in (1..=cores.min(4)).chain([7]) {
        let pool = Pool::new(threads).expect("threads");
        let ms = |spec: &Spec| {
            let lanes = Learner::lanes_worth(spec, threads);
            pool.run(|join| step(spec, lanes, Kernels::detect(), join, Duration::from_secs(1)).seconds) * 1e3
        };
        let _ = writeln!(
            text,
            "| {threads} | {:.2} | {:.2} | {:.2} |",
            ms(&works::w(64)),
            ms(&works::shipped("l100")),
            ms(&works::w(1))
        );
    }
    let _ = writeln!(
        text,
        "\n{cores} cores. A step as small as V stays on one. The bits are the same for every number of threads (`cargo test`)."
    );
    text
}

/// Latency of perception at 100 samples a second, in microseconds, with and without a learner on another thread.
fn latency() -> String {
    let mut text = String::from("| model | learning | p50 | p99 | p99.9 | samples |\n|---|---|---|---|---|---|\n");
    for name in ["l100", "robot"] {
        let spec = works::shipped(name);
        let options = works::options(1, Kernels::detect());
        let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
        let mut learner = Learner::new(&spec, &options, &mut memory).expect("a sound model");
        let mut stream = works::Stream::new(&spec);
        works::warm_up(&mut learner, &mut stream, &Alone);
        learner.publish_as_is();
        for learning in [false, true] {
            let (exchange, mut perceiver) = Exchange::new(&learner);
            let stop = AtomicBool::new(false);
            let mut took = Vec::new();
            std::thread::scope(|scope| {
                let (learner, stop) = (&mut learner, &stop);
                if learning {
                    let spec = &spec;
                    scope.spawn(move || {
                        let mut stream = works::Stream::new(spec);
                        for steps in 1.. {
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                            learner.observe(&stream.sample()).expect("the stream fits its model");
                            learner.step(&Alone);
                            if steps % 64 == 0 {
                                exchange.publish(learner);
                            }
                        }
                    });
                }
                let mut feature = vec![0; perceiver.feature_dim()];
                for _ in 0..1500 {
                    let sample = stream.sample();
                    let begun = Instant::now();
                    perceiver.perceive(&sample, &mut feature).expect("the stream fits its model");
                    took.push(begun.elapsed().as_secs_f64() * 1e6);
                    std::thread::sleep(Duration::from_millis(5));
                }
                stop.store(true, Ordering::Relaxed);
            });
            took.sort_by(f64::total_cmp);
            let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
            let _ = writeln!(
                text,
                "| {name} | {} | {:.0} | {:.0} | {:.0} | {} |",
                if learning { "on" } else { "off" },
                at(0.5),
                at(0.99),
                at(0.999),
                took.len()
            );
        }
    }
    text + "\nMicroseconds, one sample every 5 ms, the learner stepping without a pause on another thread.\n"
}

/// One row for each value of one size of W, everything else as it is.
fn growth() -> String {
    let mut text = String::from(
        "| grows | value | step, ms | G multiply-adds | ms a G | planned RAM, kB |\n|---|---|---|---|---|---|\n",
    );
    let small = || works::w(16);
    let mut row = |what: &str, value: usize, spec: Spec| {
        let step = step(&spec, 1, Kernels::detect(), &Alone, Duration::from_millis(400));
        let (ms, macs) = (step.seconds * 1e3, step.macs / 1e9);
        let _ = writeln!(
            text,
            "| {what} | {value} | {ms:.2} | {macs:.3} | {:.1} | {} |",
            ms / macs,
            step.ram.div_ceil(1000)
        );
    };
    for side in [16, 32, 64, 96] {
        let mut spec = small();
        (spec.input.height, spec.input.width) = (side, side);
        row("side of the input", side, spec);
    }
    for quarters in [2, 4, 8, 16] {
        let mut spec = small();
        spec.layer.iter_mut().for_each(|layer| layer.filters = layer.filters * quarters / 4);
        row("filters, in quarters", quarters, spec);
    }
    for batch in [4, 16, 64, 128] {
        row("batch, pairs", batch, works::w(batch));
    }
    for capacity in [64, 512, 4096] {
        let mut spec = small();
        spec.replay.capacity = capacity;
        row("replay, samples", capacity, spec);
    }
    text
}

/// The kernels whose instructions are counted: callgrind does not know all that a processor may have.
fn counted_kernels() -> Kernels {
    let avx2 = Tile::all().into_iter().find(|tile| tile.name() == "packed/avx2");
    avx2.map_or(Kernels::detect(), Kernels::Packed)
}

/// The works whose instructions are counted.
fn counted(name: &str) -> Spec {
    let mut spec = match name {
        "V" => works::w(1),
        "l100" | "motion" => works::shipped(name),
        _ => works::w(64),
    };
    // Little to warm up: it is counted too, and taken off.
    spec.replay.capacity = spec.replay.capacity.min(64);
    spec
}

/// `steps` steps of a work and nothing else, for a tool that counts them.
fn repeat(name: &str, steps: usize) {
    let spec = counted(name);
    let options = works::options(1, counted_kernels());
    let mut memory = vec![0; Learner::plan(&spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(&spec, &options, &mut memory).expect("a sound model");
    let mut stream = works::Stream::new(&spec);
    let mut trained = 0;
    while trained < steps {
        learner.observe(&stream.sample()).expect("the stream fits its model");
        if matches!(learner.step(&Alone), Did::Trained { .. }) {
            trained += 1;
        }
    }
}

/// Instructions of one step, by valgrind's callgrind: the difference of runs of three steps and of one.
fn counts() -> String {
    let program = std::env::current_exe().expect("the path of this program");
    let count = |name: &str, steps: usize| -> Result<u64, String> {
        let output = std::process::Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&program)
            .args(["--bench", "repeat", name, &steps.to_string()])
            .output()
            .map_err(|e| format!("valgrind cannot be run: {e}"))?;
        let log = String::from_utf8_lossy(&output.stderr);
        let line = log.lines().find_map(|line| line.split_once("Collected : "));
        line.and_then(|(_, n)| n.trim().parse().ok()).ok_or_else(|| format!("valgrind gave no count: {log}"))
    };
    let mut text = String::from(
        "| step of | M instructions | M multiply-adds | multiply-adds an instruction |\n|---|---|---|---|\n",
    );
    for name in ["W", "V", "l100", "motion"] {
        match count(name, 1).and_then(|one| Ok((count(name, 3)? - one) / 2)) {
            Ok(instructions) => {
                let options = works::options(1, counted_kernels());
                let macs = Learner::plan(&counted(name), &options).expect("a sound model").macs_step as f64 / 1e6;
                let millions = instructions as f64 / 1e6;
                let _ = writeln!(text, "| {name} | {millions:.1} | {macs:.1} | {:.1} |", macs / millions);
            }
            Err(problem) => return problem,
        }
    }
    text + &format!(
        "\nCounted by callgrind with {}, one sample taken in and its views made included; a later change shows here\n\
         whatever else the machine does.\n",
        counted_kernels().name()
    )
}

/// Replaces section `name` of docs/performance.md, or adds it.
fn write_section(name: &str, title: &str, body: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let section = format!("{begin}\n## {title}\n\n{}\n{end}", body.trim());
    let text = match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) => format!("{}{section}{}", &text[..from], &text[to + end.len()..]),
        _ => format!("{}\n\n{section}\n", text.trim_end()),
    };
    std::fs::write(path, text.trim_start()).expect("docs/performance.md can be written");
    println!("## {title}\n\n{}\n", body.trim());
}

fn main() {
    // `cargo test --benches` only wants to know that this builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let [_, _, command, name, steps] = &std::env::args().collect::<Vec<_>>()[..]
        && command == "repeat"
    {
        return repeat(name, steps.parse().expect("a number of steps"));
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if wants("kernels") {
        write_section("kernels", "Against the ceiling of one core", &kernels());
    }
    if wants("threads") {
        write_section("threads", "Threads", &threads());
    }
    if wants("latency") {
        write_section("latency", "Perception while learning goes on", &latency());
    }
    if wants("counts") {
        write_section("counts", "Instructions", &counts());
    }
    if wants("growth") {
        write_section("growth", "How cost grows", &growth());
    }
}
