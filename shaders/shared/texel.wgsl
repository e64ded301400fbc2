// A view that was copied into a texture (see src/gpu/texture.rs).
alias Texels = texture_storage_2d<rgba32float, read>;

// Its i-th vec4.
fn texel(t: Texels, i: u32) -> vec4<f32> { return textureLoad(t, vec2(i % 4096u, i / 4096u)); }
