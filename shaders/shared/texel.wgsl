// The i-th vec4 of a view that was copied into a texture (see src/gpu/texture.rs).
fn texel(t: texture_2d<f32>, i: u32) -> vec4<f32> { return textureLoad(t, vec2(i % 4096u, i / 4096u), 0); }
