//! The reference works in burn, on its CPU backend in Rust (flex).

use std::error::Error;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn::tensor::activation::{log_softmax, relu};
use peers::{CHANNELS, HEAD, LEARNING_RATE, STRIDES, TEMPERATURE, Work};

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<Conv2d>,
    hidden: Linear,
    output: Linear,
}

impl Encoder {
    fn new(device: &Device) -> Self {
        let layer = |n: usize| {
            Conv2dConfig::new([CHANNELS[n], CHANNELS[n + 1]], [3, 3])
                .with_stride([STRIDES[n]; 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device)
        };
        let dense = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        Encoder {
            layers: (0..4).map(layer).collect(),
            hidden: dense(CHANNELS[4], HEAD[0]),
            output: dense(HEAD[0], HEAD[1]),
        }
    }

    fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let maps = self.layers.iter().fold(images, |x, layer| relu(layer.forward(x)));
        let [images, channels, height, width] = maps.dims();
        maps.reshape([images, channels, height * width]).mean_dim(2).reshape([images, channels])
    }

    fn embeddings(&self, images: Tensor<4>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(self.features(images))))
    }
}

fn images(count: usize, side: usize, device: &Device) -> Tensor<4> {
    let values = peers::noise(count * 3 * side * side);
    Tensor::from_data(TensorData::new(values, [count, 3, side, side]), device)
}

fn training(views: usize) -> Work {
    let device = Device::flex().autodiff();
    let mut model = Some(Encoder::new(&device));
    let mut optimizer = SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init();
    let views_of_step = images(views, 32, &device);
    let itself = Tensor::<2>::eye(views, &device).bool();
    // Rows 2n and 2n + 1 are the views of one sample.
    let partners: Vec<i32> = (0..views as i32).map(|row| row ^ 1).collect();
    let partners = Tensor::<2, Int>::from_data(TensorData::new(partners, [views, 1]), &device);
    Box::new(move || {
        let now = model.take().ok_or("the step before has failed")?;
        let z = now.embeddings(views_of_step.clone());
        let z = z.clone() / z.square().sum_dim(1).sqrt().clamp_min(1e-6);
        let similar = z.clone().matmul(z.transpose()).div_scalar(TEMPERATURE).mask_fill(itself.clone(), -1e9);
        let loss = log_softmax(similar, 1).gather(1, partners.clone()).mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &now);
        model = Some(optimizer.step(LEARNING_RATE, now, gradients));
        Ok(())
    })
}

fn perceiving(side: usize) -> Work {
    let device = Device::flex();
    let (model, image) = (Encoder::new(&device), images(1, side, &device));
    Box::new(move || {
        let feature: Vec<f32> = model.features(image.clone()).into_data().try_to_vec().map_err(|e| format!("{e:?}"))?;
        std::hint::black_box(feature);
        Ok(())
    })
}

fn main() {
    peers::main("burn", "burn", |work| -> Result<Option<Work>, Box<dyn Error>> {
        Ok(peers::views(work).map(training).or_else(|| peers::side(work).map(perceiving)))
    });
}
