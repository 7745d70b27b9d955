//! The works of perceiving in tract, from the ONNX files that `models.py` has written to the folder `PEERS_MODELS`.

use std::error::Error;
use std::path::Path;

use peers::Work;
use tract_onnx::prelude::*;

fn perceiving(model: &Path, side: usize) -> TractResult<Work> {
    let model = tract_onnx::onnx().model_for_path(model)?.into_optimized()?.into_runnable()?;
    let image = tract_ndarray::Array4::from_shape_vec((1, 3, side, side), peers::noise(3 * side * side))?;
    let image: TValue = image.into_tensor().into();
    Ok(Box::new(move || {
        std::hint::black_box(model.run(tvec!(image.clone()))?);
        Ok(())
    }))
}

fn main() {
    peers::main("tract", "tract-onnx", |work| -> Result<Option<Work>, Box<dyn Error>> {
        let side = if work == "M" { Some(96) } else { peers::side(work) };
        let Some(side) = side else { return Ok(None) };
        let folder = std::env::var("PEERS_MODELS").map_err(|_| "set PEERS_MODELS to the folder of the ONNX files")?;
        Ok(Some(perceiving(&Path::new(&folder).join(format!("{work}.onnx")), side)?))
    });
}
