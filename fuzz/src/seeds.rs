//! What fuzzing begins with: small whole files of every kind, made here so that they follow the formats as these change.
//! What fuzzing found worth keeping lies in `corpus/`.

use std::io::Write;

use nestling::control;
use nestling::control::store::{TaughtStore, path_of};
use nestling::control::taught::Answer;
use nestling::image::{encode_spec, to_bytes};
use nestling::learner::{Alone, Did, Learner, Options};
use nestling::link::{self, Hello, RawSample, StateHash, ToDevice, ToHost};
use nestling::model;
use nestling::net::spec::Spec;
use nestling::sample::{Micros, Sample, Seed, Values};
use nestling::source::fault::Fault;

/// Samples that learners in seeds have seen.
const SAMPLES: u64 = 30;

const TRAINED: &str = "[feature]\ncells = 1\n[dictionary]\nsamples = 8\npatches = 2\n[pretext]\nbatch = 4\nhidden = 4\noutputs = \
     4\nsamples_per_step = 4\nneighbours = 1\n[replay]\ncapacity = 8\nfresh = 2\n[guard]\nlesson_steps = 3\ncanaries = 4\n";

/// Messages in one stream, each alone, and commands.
fn bus() -> Vec<Vec<u8>> {
    use nestling::bus::{Block, Decision, Feature, Message, Stale, frame};
    let age = std::time::Duration::from_micros(300);
    let messages = [
        Message::Feature(Feature {
            time: Micros(1 << 40),
            age,
            novelty: Some(1.5),
            blocks: vec![Block { len: 3, exponent: 5 }],
            values: vec![-127, 0, 127],
            ..Feature::default()
        }),
        Message::Decision(Decision {
            controller: "drive".into(),
            time: Micros(9),
            age,
            values: [0.25, -1.0].into_iter().collect(),
            confidence: 0.5,
            label: Some("left".into()),
            alarm: Some(true),
            safe: Some("unsure".into()),
        }),
        Message::Stale(Stale { age }),
    ];
    let mut all = Vec::new();
    messages.iter().for_each(|message| frame::write(message, &mut all));
    let one = |message: &Message| {
        let mut bytes = Vec::new();
        frame::write(message, &mut bytes);
        bytes
    };
    let commands = ["{\"command\":\"status\"}", "{\"command\":\"teach\",\"label\":\"cup\",\"examples\":5}"];
    let commands = commands.map(|text| text.as_bytes().to_vec());
    messages.iter().map(one).chain([all]).chain(commands).collect()
}

/// The text of a small model.
pub fn small_text(name: &str) -> String {
    let input = match name {
        "dictionary" => {
            return "name = 'd'\n[input]\nheight = 8\nwidth = 8\n[[layer]]\nkind = 'dictionary'\nfilters = 4\nstride = \
                    2\n[dictionary]\nsamples = 40\n[guard]\ncanaries = 0\n"
                .into();
        }
        "tokens" => {
            return "name = 't'\n[input]\nkind = 'tokens'\nwidth = 16\nvocabulary = 257\n[[layer]]\nkind = \
                    'embedding'\nfilters = 4\n[[layer]]\nfilters = 4\nzero_mean = false\n[feature]\ncells = \
                    1\n[pretext]\ntask = 'masked-token'\nbatch = 4\n[views]\nmask = 60\n[replay]\ncapacity = 8\nfresh = 2\n"
                .into();
        }
        "window" => {
            "[input]\nkind = 'window'\nwidth = 16\nchannels = 2\n[[layer]]\nfilters = 4\nstride = 2\nzero_mean = false\n"
        }
        "audio" => {
            "[input]\nkind = 'audio'\nrate = 8000\nheight = 8\nwidth = 8\nwindow = 128\nhop = 64\n[[layer]]\nkind = \
             'dictionary'\nfilters = 6\nstride = 2\n[[layer]]\nfilters = 4\nstride = 2\n"
        }
        _ => {
            "[input]\nheight = 12\nwidth = 12\nchannels = 3\n[[layer]]\nkind = 'dictionary'\nfilters = 8\ncolour_filters \
             = 2\nstride = 2\n[[layer]]\nkind = 'depthwise'\nfilters = 8\n[[layer]]\nfilters = 4\nstride = 2\n"
        }
    };
    format!("name = '{name}'\n{input}{TRAINED}")
}

/// A model that runs within microseconds: `image`, `window`, `audio`, `tokens`, `dictionary`.
pub fn small(name: &str) -> Spec {
    model::parse(name, &small_text(name)).expect("a sound model")
}

/// Whole inputs for the target `name`.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "uri" => uris(),
        "model" => models(),
        "image" => [true, false].map(image).into(),
        "state" => vec![vec![], vec![0, 0, 0, 0xFF, 0xFF, 0xFF, 8, 1, 77]],
        "checkpoint" => vec![checkpoint()],
        "link" => links(),
        "bus" => bus(),
        "table" => [
            "label,who,x\n1,a,0.5\n2,b,-1e3\n1,a,\n",
            "start,length,who,label\n0,4,1,2\n4,4,2,1\n",
            "t_ms,run,offset,length,label\n0,0,0,700,1\n50,0,700,700,2\n",
            "start_sample,n_samples,who,label\n0,4,1,2\n4,4,2,1\n",
            "1,2,3\n4,5,6\n\"7\",8,9",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        "npy" => npys(),
        "frames" => {
            vec![jpeg(16, 8, 50).repeat(3), [&jpeg(5, 4, 9)[..], b"noise", &jpeg(5, 4, 200)].concat(), vec![9; 90]]
        }
        "pictures" => vec![jpeg(5, 4, 50), png()],
        "sound" => vec![wav(1, 16), wav(2, 8)],
        "tokens" => {
            [&b"a line\nanother line\r\n\n"[..], b"12 14 15 1 3\n", &[0xFF, 0, b'\n', 9]].map(<[u8]>::to_vec).into()
        }
        "tub" => tubs(),
        #[cfg(feature = "mcap")]
        "mcap" => vec![recording(false), recording(true)],
        #[cfg(feature = "flash")]
        "flash" => vec![saved_chip(1), saved_chip(3)],
        "learn" => learns(),
        "taught" => vec![taught()],
        #[cfg(feature = "onnx")]
        "onnx" => onnx(),
        "profile" => PROFILES.map(|text| text.as_bytes().to_vec()).into(),
        #[cfg(feature = "ros")]
        "cdr" => messages(),
        _ => Vec::new(),
    }
}

/// A network of all that is read: convolution, normalisation, depthwise, sum, pools, dense layer.
#[cfg(feature = "onnx")]
pub fn network() -> nestling::onnx::proto::Model {
    use nestling::onnx::proto::{
        Attribute, Dimension, Extent, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
    };
    const FLOAT: i32 = 1;
    let tensor = |name: &str, dims: &[i64], scale: f32| {
        let len = dims.iter().product::<i64>() as usize;
        let float_data = (0..len).map(|at| ((at * 29 + 7) % 23) as f32 * scale - 9.0 * scale).collect();
        Tensor { dims: dims.to_vec(), data_type: FLOAT, name: name.into(), float_data, ..Default::default() }
    };
    let node = |op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]| {
        let attribute = |(name, values): &(&str, &[i64])| {
            let (ints, i) = if *name == "group" { (Vec::new(), values[0]) } else { (values.to_vec(), 0) };
            let r#type = if *name == "group" { 2 } else { 7 };
            Attribute { name: (*name).into(), ints, i, r#type, ..Default::default() }
        };
        Node {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            name: format!("the {output}"),
            op_type: op.into(),
            attribute: attributes.iter().map(attribute).collect(),
            domain: String::new(),
        }
    };
    let value = |name: &str, dims: &[i64]| {
        let dim = dims.iter().map(|&n| Dimension { extent: Some(Extent::Value(n)) }).collect();
        let tensor_type = Some(TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) });
        ValueInfo { name: name.into(), r#type: Some(Type { tensor_type }), doc_string: String::new() }
    };
    let ones = Tensor { float_data: vec![1.0, 0.8, 1.2, 0.9], ..tensor("ones", &[4], 0.0) };
    let graph = Graph {
        node: vec![
            node("Conv", &["x", "w0"], "conv", &[("kernel_shape", &[3, 3]), ("strides", &[2, 2]), ("pads", &[1; 4])]),
            node("BatchNormalization", &["conv", "ones", "b", "b", "ones"], "norm", &[]),
            node("Relu", &["norm"], "relu", &[]),
            node("Conv", &["relu", "w1", "b"], "deep", &[("pads", &[1; 4]), ("group", &[4])]),
            node("Add", &["deep", "relu"], "sum", &[]),
            node("MaxPool", &["sum"], "max", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]),
            node("GlobalAveragePool", &["max"], "mean", &[]),
            node("Flatten", &["mean"], "row", &[]),
            node("Gemm", &["row", "w2"], "out", &[]),
        ],
        name: "tiny".into(),
        initializer: vec![
            tensor("w0", &[4, 1, 3, 3], 0.06),
            ones,
            tensor("b", &[4], 0.02),
            tensor("w1", &[4, 1, 3, 3], 0.05),
            tensor("w2", &[4, 3], 0.1),
        ],
        input: vec![value("x", &[1, 1, 8, 8])],
        output: vec![value("out", &[1, 3])],
    };
    let opset_import = vec![OperatorSet { domain: String::new(), version: 17 }];
    Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

#[cfg(feature = "onnx")]
fn onnx() -> Vec<Vec<u8>> {
    use nestling::onnx::{back, calibrate, encoder, export, file, graph, lower};
    let foreign = network().bytes();
    let graph = graph::parse("x", &foreign, None).expect("a sound file");
    let float = lower::lower(&graph, &lower::Options::default()).expect("a sound network");
    let pixels = calibrate::Pixels { mean: vec![0.5], deviation: vec![0.3] };
    let sample: Vec<u8> = (0..64u8).map(|at| at.wrapping_mul(53)).collect();
    let integer = calibrate::calibrate(&float, &pixels, &[sample]).expect("a sound network");
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("n");
    file::write(&path, &integer).expect("room");
    let qdq = export::export(&integer, export::Format::Qdq, &[]);
    let ours = with_learner(&small("image"), |learner| {
        observe(learner, 5 * SAMPLES);
        let network = encoder::of(learner).expect("a learned encoder");
        let metadata = back::metadata(learner, &network).expect("a model");
        export::export(&network, export::Format::Float, &metadata)
    });
    vec![foreign, qdq, ours, std::fs::read(path).expect("what was written")]
}

const PROFILES: [&str; 3] = [
    "name = 'x'\nsource = ['camera:0', 'sim:rover']\nmodel = 'robot'\nseed = 3\n[perceive]\nrate = 30\n[learn]\nshare = 0.5\n\
     [store]\npath = 'a'\n[control]\nmetrics = '127.0.0.1:9464'\n",
    "[[controller]]\nname = 'a'\ndoes = 'classify'\nvalues = { cup = 0.5 }\npin = 'lamp'\n[[controller]]\nname = 'b'\ndoes = \
     'steer'\noutputs = 2\nper_second = 4.0\n[pins]\nchip = 'simulated'\n[[pin]]\nname = 'lamp'\nline = 3\ndrives = 'digital'\n",
    "[[pin]]\nname = 'wheel'\nline = 'pwmchip0/1'\ndrives = 'servo'\nsafe = 'off'\n[[pin]]\nname = 'm'\nline = 12\ndirection = \
     [5, 6]\ndrives = 'motor'\n[[button]]\nname = 'b'\nline = 4\ndoes = 'teach'\nlabel = 'cup'\n",
];

/// A manifest and a catalog, and two records.
fn tubs() -> Vec<Vec<u8>> {
    let image = "\"cam/image_array\": \"0_cam_image_array_.jpg\", \"user/angle\": 0.5, \"user/mode\": \"user\"";
    let record = |n| format!("{{\"_index\": {n}, \"_session_id\": \"a_{n}\", \"_timestamp_ms\": {n}000, {image}}}\r\n");
    let manifest = "[\"cam/image_array\", \"user/angle\"]\r\n[\"image_array\", \"float\"]\r\n{}\r\n{}\r\n{\"paths\": \
                    [\"catalog_0.catalog\"], \"current_index\": 3, \"max_len\": 10, \"deleted_indexes\": [1]}\r\n";
    let old = "{\"cam/image_array\": \"0_cam-image_array_.jpg\", \"user/angle\": -1, \"milliseconds\": 50}";
    vec![
        format!("{manifest}\n==\n{}{}{}", record(0), record(1), record(2)).into_bytes(),
        format!("{old}\n==\n[3]").into_bytes(),
    ]
}

/// A recording of ours, or of a robot.
#[cfg(feature = "mcap")]
fn recording(of_robot: bool) -> Vec<u8> {
    use nestling::recording::writer::{About, Writer};
    use nestling::ros::messages::{self, Header, Time};
    use nestling::source::{Data, Label, Record};
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("a.mcap");
    let mut writer = Writer::create(&path, &About::default()).expect("a file");
    for n in 0..4u8 {
        let at = Micros(u64::from(n) * 50_000 + 1);
        let header = || Header { stamp: Time::from(at), frame_id: String::new() };
        let pixels = vec![n; 24];
        if of_robot {
            let (height, width, encoding) = (2, 4, ["rgb8", "mono8", "yuv422", "bgra8"][usize::from(n)].to_owned());
            let image =
                messages::Image { header: header(), height, width, encoding, is_bigendian: 0, step: 12, data: &pixels };
            writer.message("/camera", &image, at).expect("room");
            let data = jpeg(5, 4, n);
            let image = messages::CompressedImage { header: header(), format: "jpeg".into(), data: &data };
            writer.message("/small", &image, at).expect("room");
            writer.message("/imu", &messages::Imu { header: header(), ..Default::default() }, at).expect("room");
        } else {
            let data = Data::Image { pixels, height: 2, width: 4, channels: 3 };
            let label = Some(Label::Value(f64::from(n)));
            let record = Record { data, time: at, segment: 0, group: 1, label, beside: vec![1, -1] };
            writer.sample(&record, n != 2).expect("room");
        }
    }
    writer.finish().expect("room");
    std::fs::read(&path).expect("what was written")
}

fn taught() -> Vec<u8> {
    let folder = tempfile::TempDir::new().expect("a folder");
    let checkpoint = folder.path().join("a.safetensors");
    let (mut store, mut taught, _) = TaughtStore::open(&checkpoint, 4).expect("nothing is there");
    taught.learn(Answer::Class("cup".into()), &[1, 2, 3, 4], 0);
    taught.learn(Answer::Values("steer".into(), control::Values::from_iter([0.5])), &[5, 6, 7, 8], 1);
    taught.offer(&[9, 9, 9, 9]);
    store.save(&taught).expect("room");
    std::fs::read(path_of(&checkpoint)).expect("what was written")
}

fn uris() -> Vec<Vec<u8>> {
    let faults: Vec<_> = Fault::ALL.iter().map(|fault| format!("{}:0.5", fault.name())).collect();
    let mut all: Vec<Vec<u8>> = [
        "npy:a/x.npy,y%2C1.npy?window=64&range=0.0..0.8&order=shuffled&seed=7&nan=skip",
        "npy:x,y?combine=-12+0-3&diff=1&smooth=2&labels=value",
        "csv:f.csv?channels=a,b&label=c&rate=50&missing=-1&nan=hold",
        "sim:rover?seed=3&sensor=imu&samples=100&window=64&stride=7",
        "sim:log?form=text",
        "pipe:-?format=rgb24&width=3&height=2",
        "tokens:a,b?by=line&column=x&vocabulary=v",
        "wav:d?name=label_who&label=label&group=who&order=by-label",
        "serial:/dev/tty?baud=115200",
        "npy:x?each=row&stack=3&times=t",
        "tub:d?label=user/mode&labels=class&range=0.5..1.0&range_of=groups",
        "mcap:a.mcap,b.mcap?topic=/camera/image_raw&window=64",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    all.push(format!("link:f?fault={}&fault_seed=3", faults.join(",")).into_bytes());
    all
}

fn models() -> Vec<Vec<u8>> {
    let ours = ["image", "window", "audio", "tokens", "dictionary"].map(small_text);
    let tasks = nestling::net::task::Task::ALL;
    let each = tasks.iter().map(|task| {
        format!("{}\ntask = '{}'\n", small_text("image").split("[pretext]").next().unwrap_or_default(), task.name())
            .replace("\ntask", "\n[pretext]\ntask")
    });
    ours.into_iter()
        .chain(each)
        .chain(model::SHIPPED.iter().map(|(_, text)| (*text).to_owned()))
        .map(String::into_bytes)
        .collect()
}

/// A learner of `spec` that has seen some samples.
fn with_learner<R>(spec: &Spec, f: impl FnOnce(&mut Learner) -> R) -> R {
    let options = Options { expected_samples: Some(2 * SAMPLES), ..Options::new(Seed(1)) };
    let mut memory = vec![0; Learner::plan(spec, &options).expect("a sound model").block_len()];
    let mut learner = Learner::new(spec, &options, &mut memory).expect("enough memory");
    observe(&mut learner, SAMPLES);
    f(&mut learner)
}

fn observe(learner: &mut Learner, samples: u64) {
    let input = &learner.spec().input;
    let (height, width, channels) = (input.height, input.width, input.channels);
    for n in 0..samples {
        let pixels: Vec<u8> =
            (0..height * width * channels).map(|i| (n as usize * 37 + i * (n as usize % 7 + 1)) as u8).collect();
        let values = Values::Image { pixels: &pixels, height, width, channels };
        learner.observe(&Sample { values, time: Micros(n), segment: 0 }).expect("a fitting sample");
        while learner.step(&Alone) != Did::Idle {}
    }
}

fn image(with_state: bool) -> Vec<u8> {
    let spec = small("image");
    with_learner(&spec, |learner| to_bytes(&spec, Seed(1), Some(2 * SAMPLES), with_state.then_some(learner)))
}

fn checkpoint() -> Vec<u8> {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("a.safetensors");
    with_learner(&small("dictionary"), |learner| nestling::store::write(&path, learner).expect("room"));
    std::fs::read(path).expect("what was written")
}

/// Frames as they are sent, and the bytes of messages alone.
fn links() -> Vec<Vec<u8>> {
    let mut buffer = [0; 512];
    let spec = encode_spec(&small("image"), &mut buffer).expect("room");
    let hello = ToHost::Hello(Hello {
        protocol: link::PROTOCOL,
        firmware: "f",
        board: "b",
        kernels: "k",
        spec: link::Bytes(spec),
        seed: 1,
        expected_samples: Some(9),
        samples: 0,
        memory: link::Memory::default(),
    });
    let pixels = Values::Image { pixels: &[0, 1, 2, 3, 4, 5], height: 1, width: 2, channels: 3 };
    let readings = Values::Window { readings: &[-1, 0, 1, 256], length: 2, channels: 2 };
    let sample =
        |number, values| ToHost::Sample(RawSample::new(number, &Sample { values, time: Micros(number), segment: 0 }));
    let hash = ToHost::Hash(StateHash { hash: nestling::state::Hash([7; 32]), samples: 2, finished: false });
    let to_host = [hello, sample(0, pixels), sample(1, readings), hash, ToHost::Ready, ToHost::Log("a line")];
    let mut stream = Vec::new();
    let mut all = Vec::new();
    for message in &to_host {
        let mut framed = Vec::new();
        link::send(message, |piece| framed.write_all(piece)).expect("a vector takes all");
        let mut decoder = link::Decoder::new(vec![0; 4096]);
        if framed.iter().any(|&byte| decoder.push(byte)) {
            all.push(decoder.frame().to_vec());
        }
        stream.extend(framed);
    }
    let raw = RawSample::new(5, &Sample { values: readings, time: Micros(5), segment: 0 });
    link::send(&ToDevice::Sample(raw), |piece| stream.write_all(piece)).expect("a vector takes all");
    all.push(stream);
    all
}

/// A NumPy file.
pub fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, text.as_bytes(), data].concat()
}

fn npys() -> Vec<Vec<u8>> {
    let floats: Vec<u8> = [1.5f32, -2.0, f32::NAN, 8.0, 0.25, 3.0, 4.0, 1e9].map(f32::to_le_bytes).concat();
    let signal = npy("<f4", "(4, 2)", &floats);
    let labels = npy("<i8", "(4,)", &[1i64, 0, 2, 1].map(i64::to_le_bytes).concat());
    let two = |a: &[u8], b: &[u8]| [a, b"\n==\n", b].concat();
    vec![
        npy("|u1", "(2, 3, 4)", &[7; 24]),
        npy("|u1", "(2, 2, 2, 3)", &[9; 24]),
        two(&npy("|u1", "(4, 2, 2)", &[7; 16]), &labels),
        two(&signal, &npy("<f8", "(4, 2)", &[0; 64])),
        two(&npy("|b1", "(4,)", &[0, 1, 1, 0]), &labels),
        signal,
    ]
}

/// A small JPEG file.
pub fn jpeg(width: u32, height: u32, shade: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([shade, (x * 5) as u8, (y * 7) as u8]));
    let mut out = Vec::new();
    image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 60)).expect("a JPEG");
    out
}

fn png() -> Vec<u8> {
    let image = image::RgbImage::from_fn(5, 4, |x, y| image::Rgb([1, (x * 5) as u8, (y * 7) as u8]));
    let mut out = Vec::new();
    image.write_with_encoder(image::codecs::png::PngEncoder::new(&mut out)).expect("a PNG");
    out
}

fn wav(channels: u16, bits: u16) -> Vec<u8> {
    let block = channels * bits / 8;
    let data: Vec<u8> = (0..200u32).map(|i| (i * i) as u8).collect();
    let mut out = b"RIFF".to_vec();
    out.extend((36 + data.len() as u32).to_le_bytes());
    out.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend(channels.to_le_bytes());
    out.extend(8000u32.to_le_bytes());
    out.extend((8000 * u32::from(block)).to_le_bytes());
    out.extend(block.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out.extend(b"data");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

fn learns() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(i ^ 0x55) >> 5) as u8).collect();
    let mut table = String::from("x,y\n");
    noise[..80].chunks_exact(2).for_each(|pair| table += &format!("{},{}\n", pair[0], pair[1]));
    let files = [
        npy("|u1", "(20, 4, 4, 3)", &noise[..960]),
        jpeg(8, 6, 50).repeat(5),
        table.into_bytes(),
        wav(1, 16),
        noise.clone(),
        noise[..300].to_vec(),
        noise[..1200].to_vec(),
        png(),
    ];
    files.into_iter().enumerate().map(|(kind, file)| [&[kind as u8, 1][..], &file].concat()).collect()
}

/// The image that states in flash belong to.
#[cfg(feature = "flash")]
pub const IMAGE: u32 = 7;

/// A NOR flash of sixteen small pages, of words of four bytes.
#[cfg(feature = "flash")]
pub struct Chip(pub Vec<u8>);

#[cfg(feature = "flash")]
mod chip {
    use super::{Chip, IMAGE, observe, small, with_learner};
    use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
    use nestling::flash::{Blocking, FlashStore};

    const PAGES: usize = 24;

    impl Chip {
        /// Blank.
        #[allow(clippy::new_without_default, reason = "a chip is made on purpose")]
        pub fn new() -> Self {
            Chip(vec![0xFF; PAGES * Self::ERASE_SIZE])
        }

        fn part(&mut self, from: u32, len: usize) -> Result<&mut [u8], NorFlashErrorKind> {
            self.0.get_mut(from as usize..from as usize + len).ok_or(NorFlashErrorKind::OutOfBounds)
        }
    }

    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Chip {
        const READ_SIZE: usize = 1;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            bytes.copy_from_slice(self.part(offset, bytes.len())?);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.0.len()
        }
    }

    impl NorFlash for Chip {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 256;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            self.part(from, to.saturating_sub(from) as usize)?.fill(0xFF);
            Ok(())
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            self.part(offset, bytes.len())?.iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
            Ok(())
        }
    }

    /// A chip after so many saves.
    pub(super) fn saved_chip(saves: u64) -> Vec<u8> {
        let mut chip = Chip::new();
        with_learner(&small("dictionary"), |learner| {
            let buffer = &mut [0; 512];
            let range = 0..chip.0.len() as u32;
            let mut store = FlashStore::open(Blocking(&mut chip), range, IMAGE, buffer).expect("a blank chip");
            for _ in 0..saves {
                observe(learner, 1);
                store.save(learner, buffer).expect("room");
            }
        });
        chip.0
    }
}
#[cfg(feature = "flash")]
use chip::saved_chip;

#[cfg(feature = "ros")]
fn messages() -> Vec<Vec<u8>> {
    use nestling::ros::messages::{CompressedImage, Decision, Feature, Header, Health, Image, Imu, Text, Time};
    use nestling::ros::{cdr::CdrError, encode};
    let header = || Header { stamp: Time { sec: 7, nanosec: 9 }, frame_id: "eye".into() };
    let image = Image {
        header: header(),
        height: 2,
        width: 2,
        encoding: "rgb8".into(),
        step: 6,
        data: &[5; 12],
        ..Image::default()
    };
    let compressed = CompressedImage { header: header(), format: "jpeg".into(), data: &[0xFF, 0xD8, 0xFF] };
    let feature =
        Feature { header: header(), lengths: vec![2], exponents: vec![9], values: &[-1, 1], ..Feature::default() };
    let decision =
        Decision { controller: "road".into(), values: vec![0.5], label: "ball".into(), ..Decision::default() };
    let written: Result<Vec<_>, CdrError> = [
        encode(&image),
        encode(&compressed),
        encode(&feature),
        encode(&decision),
        encode(&Health::default()),
        encode(&Imu { header: header(), ..Imu::default() }),
        encode(&Text { data: "hello".into() }),
    ]
    .into_iter()
    .collect();
    written.expect("small messages")
}
