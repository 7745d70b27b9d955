//! Why a network cannot come in or go out. Each message names the node or tensor, and what to do.

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Store(#[from] crate::store::StoreError),
    /// The encoder has no shifts yet.
    #[error(
        "the encoder has not published anything yet: the shift of {what} is not known\n  what to do: let it learn from more \
         samples, until its first lesson is published"
    )]
    Unlearned { what: String },
    #[error("{what} has {bytes} bytes; at most {most} are read\n  what to do: name a smaller network")]
    TooLarge { what: String, bytes: u64, most: u64 },
    #[error("{path}: this is no ONNX file that can be read: {problem}\n  what to do: export the network again")]
    Protobuf { path: String, problem: String },
    #[error(
        "{path}: its operators are of version {version}, and {least} to {most} are read\n  what to do: convert the network, \
         for example by onnx.version_converter"
    )]
    Opset { path: String, version: i64, least: i64, most: i64 },
    #[error("tensor {tensor}: {problem}\n  what to do: export the network again, and check it with onnx.checker")]
    Tensor { tensor: String, problem: String },
    #[error("node {node} ({op}): {problem}\n  what to do: export the network again, and check it with onnx.checker")]
    Node { node: String, op: String, problem: String },
    #[error(
        "tensor {tensor}: its numbers are in the file \"{file}\", which cannot be used: {problem}\n  what to do: put the file \
         beside the network, or save the network in one file"
    )]
    External { tensor: String, file: String, problem: String },
    /// What the network has and integers here have not.
    #[error(
        "{} of the network cannot be brought in:{}\n  what to do: cut it off with --output TENSOR, below which all of it can, \
         or export the network without it", places(.0), list(.0)
    )]
    Unsupported(Vec<Unsupported>),
    #[error("input {input}: {problem}\n  what to do: {remedy}")]
    Input { input: String, problem: String, remedy: String },
    #[error("{path}: {problem}\n  what to do: {remedy}")]
    Backbone { path: String, problem: String, remedy: String },
    #[error("a backbone takes frames, and this is none")]
    NoFrame,
    #[error("there is no sample to calibrate on\n  what to do: name a source that has some with --calibrate")]
    NoSamples,
    #[error(
        "node {node}: what it computes of the samples is not finite\n  what to do: see that the network is fed as it was \
         trained (--mean, --deviation)"
    )]
    NotFinite { node: String },
    #[cfg(feature = "tract")]
    #[error(
        "{path}: tract cannot run it: {problem}\n  what to do: import it with --no-original, which compares with floats of our own"
    )]
    Tract { path: String, problem: String },
    /// A file of ours was changed.
    #[error(
        "{path}: {problem}\n  what to do: export the checkpoint again with `nestling export CHECKPOINT --onnx FILE`"
    )]
    Damaged { path: String, problem: String },
    #[error(
        "{path}: {problem}\n  what to do: import the network again with `nestling import NETWORK.onnx --calibrate URI`"
    )]
    NetworkFile { path: String, problem: String },
    /// A network in integers that contradicts itself.
    #[error("node {node}: {problem}\n  what to do: import the network again")]
    Network { node: String, problem: String },
}

/// A node that cannot be brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    pub node: String,
    pub op: String,
    pub problem: String,
    /// A tensor that it reads.
    pub input: String,
}

fn places(list: &[Unsupported]) -> String {
    if list.len() == 1 { "one node".into() } else { format!("{} nodes", list.len()) }
}

fn list(list: &[Unsupported]) -> String {
    let line = |u: &Unsupported| format!("\n  {} ({}): {}; it reads {}", u.node, u.op, u.problem, u.input);
    list.iter().map(line).collect()
}
