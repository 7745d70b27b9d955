//! The reference works in candle. Its SGD knows no momentum, so that its update is the cheapest of all.

use std::error::Error;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, Optimizer, SGD, VarBuilder, VarMap};
use peers::{CHANNELS, HEAD, LEARNING_RATE, STRIDES, TEMPERATURE, Work};

struct Encoder {
    layers: Vec<Conv2d>,
    hidden: Linear,
    output: Linear,
}

impl Encoder {
    fn new(variables: &VarMap) -> Result<Self> {
        let builder = VarBuilder::from_varmap(variables, DType::F32, &Device::Cpu);
        let layer = |n: usize| {
            let config = Conv2dConfig { padding: 1, stride: STRIDES[n], ..Default::default() };
            candle_nn::conv2d_no_bias(CHANNELS[n], CHANNELS[n + 1], 3, config, builder.pp(n))
        };
        Ok(Encoder {
            layers: (0..4).map(layer).collect::<Result<_>>()?,
            hidden: candle_nn::linear_no_bias(CHANNELS[4], HEAD[0], builder.pp("hidden"))?,
            output: candle_nn::linear_no_bias(HEAD[0], HEAD[1], builder.pp("output"))?,
        })
    }

    fn features(&self, images: &Tensor) -> Result<Tensor> {
        let mut maps = images.clone();
        for layer in &self.layers {
            maps = layer.forward(&maps)?.relu()?;
        }
        maps.mean((2, 3))
    }

    fn embeddings(&self, images: &Tensor) -> Result<Tensor> {
        self.output.forward(&self.hidden.forward(&self.features(images)?)?.relu()?)
    }
}

fn images(count: usize, side: usize) -> Result<Tensor> {
    Tensor::from_vec(peers::noise(count * 3 * side * side), (count, 3, side, side), &Device::Cpu)
}

fn training(views: usize) -> Result<Work> {
    let variables = VarMap::new();
    let model = Encoder::new(&variables)?;
    let mut optimizer = SGD::new(variables.all_vars(), LEARNING_RATE)?;
    let views_of_step = images(views, 32)?;
    let itself = (Tensor::eye(views, DType::F32, &Device::Cpu)? * -1e9)?;
    // Rows 2n and 2n + 1 are the views of one sample.
    let partners: Vec<u32> = (0..views as u32).map(|row| row ^ 1).collect();
    let partners = Tensor::new(partners, &Device::Cpu)?;
    Ok(Box::new(move || {
        let z = model.embeddings(&views_of_step)?;
        let z = z.broadcast_div(&(z.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + 1e-6)?)?;
        let similar = ((z.matmul(&z.t()?)? / TEMPERATURE)? + &itself)?;
        let loss = candle_nn::loss::cross_entropy(&similar, &partners)?;
        optimizer.backward_step(&loss)?;
        Ok(())
    }))
}

fn perceiving(side: usize) -> Result<Work> {
    let variables = VarMap::new();
    let (model, image) = (Encoder::new(&variables)?, images(1, side)?);
    // Variables would have every step remembered for a backward pass: perceive with plain tensors.
    let plain = |c: &Conv2d| Conv2d::new(c.weight().detach(), None, *c.config());
    let model = Encoder { layers: model.layers.iter().map(plain).collect(), ..model };
    Ok(Box::new(move || {
        std::hint::black_box(model.features(&image)?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }))
}

fn main() {
    peers::main("candle", "candle-core", |work| -> std::result::Result<Option<Work>, Box<dyn Error>> {
        Ok(match (peers::views(work), peers::side(work)) {
            (Some(views), _) => Some(training(views)?),
            (_, Some(side)) => Some(perceiving(side)?),
            _ => None,
        })
    });
}
