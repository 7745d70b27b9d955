//! Pictures of the world's surfaces, computed once: a look-up costs four texels of the level that fits the distance.
//!
//! A texel holds the square root of the reflectance, which is close to what the eye and a camera's gamma curve see.

/// A picture and its halved copies.
#[derive(Clone, Debug)]
pub(super) struct Texture {
    levels: Vec<Level>,
}

#[derive(Clone, Debug)]
struct Level {
    width: usize,
    height: usize,
    texels: Vec<[u8; 4]>,
    /// Texels per metre.
    density: f32,
}

/// Halvings that are kept.
pub(super) const LEVELS: usize = 6;

impl Texture {
    /// Paints a surface of `width_m` by `height_m` metres with texels of `texel_m`; `paint` is called with metres.
    pub(super) fn paint(
        width_m: f32,
        height_m: f32,
        texel_m: f32,
        mut paint: impl FnMut(f32, f32) -> [f32; 3],
    ) -> Self {
        Texture::paint_marked(width_m, height_m, texel_m, |x, y| (paint(x, y), 0.0))
    }

    /// As [`Texture::paint`], with what share of each texel is a marking.
    pub(super) fn paint_marked(
        width_m: f32,
        height_m: f32,
        texel_m: f32,
        mut paint: impl FnMut(f32, f32) -> ([f32; 3], f32),
    ) -> Self {
        let width = ((width_m / texel_m) as usize).max(2);
        let height = ((height_m / texel_m) as usize).max(2);
        let mut texels = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                let (colour, mark) = paint((column as f32 + 0.5) * texel_m, (row as f32 + 0.5) * texel_m);
                let byte = |c: f32| (c.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
                let [r, g, b] = colour.map(byte);
                texels.push([r, g, b, byte(mark)]);
            }
        }
        let mut levels = vec![Level { width, height, texels, density: 1.0 / texel_m }];
        while levels.len() < LEVELS {
            let finer = &levels[levels.len() - 1];
            if finer.width < 4 || finer.height < 4 {
                break;
            }
            let coarser = finer.halved();
            levels.push(coarser);
        }
        Texture { levels }
    }

    /// Reflectance 0 to 1 of red, green and blue at (x, y) metres, from the level after `halvings` halvings.
    pub(super) fn at(&self, x: f32, y: f32, halvings: usize) -> [f32; 3] {
        let level = &self.levels[halvings.min(self.levels.len() - 1)];
        level.bilinear(x * level.density, y * level.density)
    }
}

impl Texture {
    /// Share of the texel at (x, y) metres that is a marking, 0 to 1.
    pub(super) fn mark(&self, x: f32, y: f32) -> f32 {
        let level = &self.levels[0];
        let place = |v: f32, count: usize| ((v * level.density).max(0.0) as usize).min(count - 1);
        let texel = place(y, level.height) * level.width + place(x, level.width);
        f32::from(level.texels[texel][3]) * (1.0 / 255.0)
    }
}

impl Level {
    fn halved(&self) -> Level {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut texels = Vec::with_capacity(width * height);
        for row in 0..height {
            for column in 0..width {
                let corner = 2 * row * self.width + 2 * column;
                let four = [corner, corner + 1, corner + self.width, corner + self.width + 1];
                let mean = |c: usize| (four.iter().map(|&i| u16::from(self.texels[i][c])).sum::<u16>() + 2) / 4;
                texels.push([mean(0) as u8, mean(1) as u8, mean(2) as u8, 0]);
            }
        }
        Level { width, height, texels, density: self.density * 0.5 }
    }

    /// Outside the picture its edge goes on.
    fn bilinear(&self, x: f32, y: f32) -> [f32; 3] {
        // 8 fraction bits; texel centres lie at halves.
        let (x, y) = (((x * 256.0) as i32).saturating_sub(128), ((y * 256.0) as i32).saturating_sub(128));
        let (x, y) = (x.clamp(0, (self.width as i32 - 1) * 256 - 1), y.clamp(0, (self.height as i32 - 1) * 256 - 1));
        let (fx, fy) = ((x & 255) as u32, (y & 255) as u32);
        let corner = (y >> 8) as usize * self.width + (x >> 8) as usize;
        let (top, bottom) =
            (&self.texels[corner..corner + 2], &self.texels[corner + self.width..corner + self.width + 2]);
        let mut colour = [0.0; 3];
        for (c, out) in colour.iter_mut().enumerate() {
            let a = u32::from(top[0][c]) * (256 - fx) + u32::from(top[1][c]) * fx;
            let b = u32::from(bottom[0][c]) * (256 - fx) + u32::from(bottom[1][c]) * fx;
            let root = ((a * (256 - fy) + b * fy) >> 8) as f32 * (1.0 / 65_280.0);
            *out = root * root;
        }
        colour
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_anywhere_stays_in_the_picture() {
        let texture = Texture::paint(2.0, 1.0, 0.1, |x, _| [x * 0.5, 0.5, 1.0]);
        for halvings in 0..9 {
            for (x, y) in [(-5.0, -5.0), (0.0, 0.0), (1.0, 0.5), (2.0, 1.0), (-1e9, 1e9), (f32::NAN, f32::INFINITY)] {
                let [r, g, b] = texture.at(x, y, halvings);
                assert!((0.0..=1.0).contains(&r) && (g - 0.25).abs() < 0.01 && b > 0.98);
            }
        }
        assert!((texture.at(1.0, 0.5, 0)[0] - 0.25).abs() < 0.01);
    }
}
