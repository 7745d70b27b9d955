//! Weights of a network for programs and firmware that are not ours.

use std::collections::HashMap;
use std::fmt::Write;

use safetensors::tensor::{Dtype, TensorView};

use crate::onnx::Network;
use crate::onnx::file::{Integers, tensors};
use crate::onnx::network::Op;

/// All weights and biases as floats, in a safetensors file.
pub fn safetensors(network: &Network) -> Result<Vec<u8>, String> {
    let held: Vec<_> = tensors(network)
        .into_iter()
        .map(|tensor| {
            let bytes: Vec<u8> = tensor.floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            (tensor.name, tensor.shape, bytes)
        })
        .collect();
    let views: Result<Vec<_>, _> = held
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view)))
        .collect();
    let metadata = HashMap::from([
        ("format".to_string(), "nestling weights, float".to_string()),
        ("network".to_string(), network.name.clone()),
    ]);
    safetensors::serialize(views.map_err(|e| e.to_string())?, Some(metadata)).map_err(|e| e.to_string())
}

/// All weights, biases and shifts as constant arrays. What a layer computes of them stands in the header itself.
pub fn c_header(network: &Network) -> String {
    let mut text = format!(
        "/* Network {}, written by nestling {}.\n * Maps are int8_t [height][width][channels]. A convolution is\n *   out = \
         clamp((sum(x * weight) + bias + (1 << shift >> 1)) >> shift, LOW, HIGH)\n * with sums of 32 bits and an arithmetic \
         shift; weights are [filters][height][width][channels / groups]. */\n#ifndef NESTLING_NETWORK_H\n#define \
         NESTLING_NETWORK_H\n#include <stdint.h>\n",
        network.name.replace("*/", "* /"),
        env!("CARGO_PKG_VERSION")
    );
    for tensor in tensors(network) {
        let name = identifier(&tensor.name);
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let (kind, values): (_, Vec<i32>) = match tensor.integers {
            Integers::Bytes(bytes) => ("int8_t", bytes.iter().map(|&v| i32::from(v)).collect()),
            Integers::Words(words) => ("int32_t", words.to_vec()),
        };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n/* [filters, channels, height, width]: {shape} */\nstatic const {kind} {name}[{}] = {{",
            values.len()
        );
        lines(&mut text, &values);
    }
    for (number, node) in network.nodes.iter().enumerate() {
        let Op::Conv { weight_exponents, .. } = &node.op else { continue };
        let from = network.exponent(node.inputs[0]);
        let shifts: Vec<i32> = weight_exponents.iter().map(|e| node.exponent - from - e).collect();
        let (name, node) = (identifier(&node.name), &network.nodes[number]);
        let _ = write!(
            text,
            "\n#define {0}_LOW {1}\n#define {0}_HIGH {2}\nstatic const uint8_t {3}_shift[{4}] = {{",
            name.to_uppercase(),
            node.low,
            node.high,
            name,
            shifts.len()
        );
        lines(&mut text, &shifts);
    }
    text + "\n#endif\n"
}

fn lines(text: &mut String, values: &[i32]) {
    for row in values.chunks(20) {
        let row = row.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let _ = write!(text, "\n  {row},");
    }
    text.push_str("\n};\n");
}

/// `name` as C takes it.
fn identifier(name: &str) -> String {
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    format!("n_{}", plain.collect::<String>())
}
