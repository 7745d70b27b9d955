//! What a simulated world is made from: the knobs that a demo or a test turns. Holds no logic but the clamping.

/// How to build a world, its camera and its rover. Every field is clamped to what the simulator can do.
#[derive(Clone, Debug, PartialEq)]
pub struct WorldConfig {
    /// Shape of the track, and every noise of the drive.
    pub seed: u64,
    /// How everything looks: floor, markings, walls, clutter. `None`: follows `seed`. The track keeps its shape when
    /// only this changes.
    pub texture_seed: Option<u64>,
    /// Length of one lap in metres, 14 to 60.
    pub lap_m: f32,
    /// Width of the lane between its edge lines in metres, 0.6 to 1.4.
    pub lane_m: f32,
    /// How worn the markings are, 0 (new) to 1 (hardly there).
    pub marking_wear: f32,
    /// Boxes and posts beside the track per metre of it, 0 to 4.
    pub clutter_per_m: f32,
    /// How far brightness and colour of the light wander with time, 0 (constant) to 1.
    pub light_drift: f32,
    /// Depth of the moving shadows, 0 to 1.
    pub shadows: f32,
    /// Strength of the sensor noise, 1 is a cheap camera indoors; 0 to 5.
    pub image_noise: f32,
    /// Strength of the shaking of body and camera, 1 is a small car on a hard floor; 0 to 5.
    pub shake: f32,
    /// Strength of the wheel slip and of the drift of speed, 0 to 3.
    pub slip: f32,
    /// Height of the lens over the floor in metres, 0.05 to 1.
    pub camera_height_m: f32,
    /// How far the camera looks down in radians, 0 to 1.2.
    pub camera_pitch_rad: f32,
    /// Horizontal field of view in radians, 0.6 to 2.2.
    pub camera_fov_rad: f32,
    /// Rows of a frame, 8 to 1024.
    pub frame_height: usize,
    /// Columns of a frame, 8 to 1024.
    pub frame_width: usize,
    /// Speed that the rover holds in metres per second, 0 to 2.5.
    pub speed_mps: f32,
}

impl WorldConfig {
    /// The default world with another seed.
    pub fn with_seed(seed: u64) -> Self {
        WorldConfig { seed, ..WorldConfig::default() }
    }

    /// The same with every field inside its range; what is not a number becomes the default.
    pub(super) fn clamped(&self) -> Self {
        let d = WorldConfig::default();
        let fit = |value: f32, low: f32, high: f32, default: f32| {
            if value.is_nan() { default } else { value.clamp(low, high) }
        };
        WorldConfig {
            seed: self.seed,
            texture_seed: self.texture_seed,
            lap_m: fit(self.lap_m, 14.0, 60.0, d.lap_m),
            lane_m: fit(self.lane_m, 0.6, 1.4, d.lane_m),
            marking_wear: fit(self.marking_wear, 0.0, 1.0, d.marking_wear),
            clutter_per_m: fit(self.clutter_per_m, 0.0, 4.0, d.clutter_per_m),
            light_drift: fit(self.light_drift, 0.0, 1.0, d.light_drift),
            shadows: fit(self.shadows, 0.0, 1.0, d.shadows),
            image_noise: fit(self.image_noise, 0.0, 5.0, d.image_noise),
            shake: fit(self.shake, 0.0, 5.0, d.shake),
            slip: fit(self.slip, 0.0, 3.0, d.slip),
            camera_height_m: fit(self.camera_height_m, 0.05, 1.0, d.camera_height_m),
            camera_pitch_rad: fit(self.camera_pitch_rad, 0.0, 1.2, d.camera_pitch_rad),
            camera_fov_rad: fit(self.camera_fov_rad, 0.6, 2.2, d.camera_fov_rad),
            frame_height: self.frame_height.clamp(8, 1024),
            frame_width: self.frame_width.clamp(8, 1024),
            speed_mps: fit(self.speed_mps, 0.0, 2.5, d.speed_mps),
        }
    }

    pub(super) fn look(&self) -> u64 {
        self.texture_seed.unwrap_or(self.seed)
    }
}

impl Default for WorldConfig {
    fn default() -> Self {
        WorldConfig {
            seed: 1,
            texture_seed: None,
            lap_m: 24.0,
            lane_m: 1.0,
            marking_wear: 0.5,
            clutter_per_m: 1.5,
            light_drift: 0.6,
            shadows: 0.75,
            image_noise: 1.0,
            shake: 1.0,
            slip: 1.0,
            camera_height_m: 0.2,
            camera_pitch_rad: 0.3,
            camera_fov_rad: 1.7,
            frame_height: 48,
            frame_width: 64,
            speed_mps: 1.0,
        }
    }
}
