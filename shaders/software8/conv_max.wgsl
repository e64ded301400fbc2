// The convolution of ../conv_max.wgsl for subgroups of 8 invocations: a subgroup computes 32 frames of 32 output
// channels. A column of x, 32 frames and those that a filter reaches beyond them, is loaded once by different
// invocations and broadcast to all taps, whose weights come from a texture, as x does: a load costs a fraction of one
// from storage. With PAIRS, for filters of one chunk of taps whose weights fit in a uniform buffer, as cheap, two bands
// of the map are computed at once.
enable subgroups;
#import grid
#import texel
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
#import nan
#import conv_max

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var x: Texels;                                // (B, T, F) every x_stride
#ifdef PAIRS
@group(0) @binding(2) var<uniform> weights: array<vec4<f32>, 4096>; // (K, chunks, TAPS, 32): a panel
#else
@group(0) @binding(2) var weights: Texels;                          // the same
#endif
@group(0) @binding(3) var<storage, read> b: array<f32>;             // (N) every b_stride
@group(0) @binding(4) var<storage, read> scale: array<f32>;         // (N) every scale_stride
@group(0) @binding(5) var<storage, read> shift: array<f32>;         // (N) every shift_stride
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (R, B, T, N)

// Eight frames of an invocation's four channels.
alias Rows = array<vec4<f32>, 8>;

// The weights of a chunk of taps.
struct Taps {
    w0: vec4<f32>,
    w1: vec4<f32>,
    w2: vec4<f32>,
    w3: vec4<f32>,
    w4: vec4<f32>,
    w5: vec4<f32>,
    w6: vec4<f32>,
    w7: vec4<f32>,
}

// An element of x, 0 before and after the clip.
fn element(at: u32, frame: u32) -> f32 {
    var v = 0.0;
    if frame < p.t {
        let i = at + frame * p.bands;
        let four = texel(x, i / 4u);
        let two = select(four.xy, four.zw, (i & 2u) == 2u);
        v = select(two.x, two.y, (i & 1u) == 1u);
    }
    return v;
}

#ifdef PAIRS
fn weight_at(i: u32) -> vec4<f32> { return weights[i]; }
#else
fn weight_at(i: u32) -> vec4<f32> { return texel(weights, i); }
#endif

fn taps_at(i: u32) -> Taps {
    var w = Taps(weight_at(i), weight_at(i + 8u), weight_at(i + 16u), weight_at(i + 24u),
                 weight_at(i + 32u), weight_at(i + 40u), weight_at(i + 48u), vec4(0.0));
    if TAPS == 8u { w.w7 = weight_at(i + 56u); }
    return w;
}

// An eighth tap costs nothing where there are seven: TAPS is a constant.
fn multiply_add(t: vec4<f32>, w: Taps, x0: f32, x1: f32, x2: f32, x3: f32, x4: f32, x5: f32, x6: f32, x7: f32)
    -> vec4<f32> {
    var sum = t + x0 * w.w0 + x1 * w.w1 + x2 * w.w2 + x3 * w.w3 + x4 * w.w4 + x5 * w.w5 + x6 * w.w6;
    if TAPS == 8u { sum += x7 * w.w7; }
    return sum;
}

// Adds the taps on eight frames, invocation i holding frame i, and on those after them.
fn add(t: ptr<function, Rows>, w: Taps, own: f32, after: f32) {
    let x0 = subgroupBroadcast(own, 0u);
    let x1 = subgroupBroadcast(own, 1u);
    let x2 = subgroupBroadcast(own, 2u);
    let x3 = subgroupBroadcast(own, 3u);
    let x4 = subgroupBroadcast(own, 4u);
    let x5 = subgroupBroadcast(own, 5u);
    let x6 = subgroupBroadcast(own, 6u);
    let x7 = subgroupBroadcast(own, 7u);
    let x8 = subgroupBroadcast(after, 0u);
    let x9 = subgroupBroadcast(after, 1u);
    let x10 = subgroupBroadcast(after, 2u);
    let x11 = subgroupBroadcast(after, 3u);
    let x12 = subgroupBroadcast(after, 4u);
    let x13 = subgroupBroadcast(after, 5u);
    let x14 = subgroupBroadcast(after, 6u);
    (*t)[0] = multiply_add((*t)[0], w, x0, x1, x2, x3, x4, x5, x6, x7);
    (*t)[1] = multiply_add((*t)[1], w, x1, x2, x3, x4, x5, x6, x7, x8);
    (*t)[2] = multiply_add((*t)[2], w, x2, x3, x4, x5, x6, x7, x8, x9);
    (*t)[3] = multiply_add((*t)[3], w, x3, x4, x5, x6, x7, x8, x9, x10);
    (*t)[4] = multiply_add((*t)[4], w, x4, x5, x6, x7, x8, x9, x10, x11);
    (*t)[5] = multiply_add((*t)[5], w, x5, x6, x7, x8, x9, x10, x11, x12);
    (*t)[6] = multiply_add((*t)[6], w, x6, x7, x8, x9, x10, x11, x12, x13);
    (*t)[7] = multiply_add((*t)[7], w, x7, x8, x9, x10, x11, x12, x13, x14);
}

fn no_taps() -> Taps {
    let v = vec4(0.0);
    return Taps(v, v, v, v, v, v, v, v);
}

fn lowest() -> Rows {
    let v = vec4(LOWEST);
    return Rows(v, v, v, v, v, v, v, v);
}

// Constant indices only: an array indexed by a loop variable would be in memory.
fn raise(greatest: ptr<function, Rows>, sign: vec4<f32>, t: Rows) {
    (*greatest)[0] = greater((*greatest)[0], sign * t[0]);
    (*greatest)[1] = greater((*greatest)[1], sign * t[1]);
    (*greatest)[2] = greater((*greatest)[2], sign * t[2]);
    (*greatest)[3] = greater((*greatest)[3], sign * t[3]);
    (*greatest)[4] = greater((*greatest)[4], sign * t[4]);
    (*greatest)[5] = greater((*greatest)[5], sign * t[5]);
    (*greatest)[6] = greater((*greatest)[6], sign * t[6]);
    (*greatest)[7] = greater((*greatest)[7], sign * t[7]);
}

fn put_row(clip: u32, frame: u32, n: u32, c: Channels, v: vec4<f32>) {
    if frame < p.t { put(clip * p.t + frame, n, c, v); }
}

fn put_rows(clip: u32, frame: u32, n: u32, c: Channels, t: Rows) {
    put_row(clip, frame, n, c, t[0]);
    put_row(clip, frame + 1u, n, c, t[1]);
    put_row(clip, frame + 2u, n, c, t[2]);
    put_row(clip, frame + 3u, n, c, t[3]);
    put_row(clip, frame + 4u, n, c, t[4]);
    put_row(clip, frame + 5u, n, c, t[5]);
    put_row(clip, frame + 6u, n, c, t[6]);
    put_row(clip, frame + 7u, n, c, t[7]);
}

@compute @workgroup_size(8)
fn conv_max_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
                    @builtin(local_invocation_index) lane: u32) {
    let tile = group_index(id, count);
    let clip = tile / tiles();
    if clip >= p.batch { return; } // beyond the end of a folded grid
    let first = (tile - clip * tiles()) * FRAMES;
    let n = p.panel * CHANNELS + 4u * lane;
    let c = channels_at(n, p.replica);
    let x0 = p.replica * p.x_stride + clip * p.t * p.bands;
    var g0 = lowest();
    var g1 = lowest();
    var g2 = lowest();
    var g3 = lowest();
#ifdef PAIRS
    // Two bands share their loads: column i of one is column i - 1 of the next. After the last pair of an odd number of
    // bands nothing is raised.
    for (var band = 0u; band + p.width <= p.bands; band += 2u) {
        var t0: Rows;
        var t1: Rows;
        var t2: Rows;
        var t3: Rows;
        var u0: Rows;
        var u1: Rows;
        var u2: Rows;
        var u3: Rows;
        var weight = lane;
        var before = no_taps();
        for (var column = 0u; column <= p.width; column++) {
            let at = x0 + min(band + column, p.bands - 1u); // the last column is the second band's alone
            let frame = first + lane - p.before; // wraps around before the clip
            let v0 = element(at, frame);
            let v1 = element(at, frame + 8u);
            let v2 = element(at, frame + 16u);
            let v3 = element(at, frame + 24u);
            let v4 = element(at, frame + 32u);
            var w = no_taps();
            if column < p.width { w = taps_at(weight); }
            add(&t0, w, v0, v1);
            add(&t1, w, v1, v2);
            add(&t2, w, v2, v3);
            add(&t3, w, v3, v4);
            add(&u0, before, v0, v1);
            add(&u1, before, v1, v2);
            add(&u2, before, v2, v3);
            add(&u3, before, v3, v4);
            before = w;
            weight += TAPS * 8u;
        }
        raise(&g0, c.sign, t0);
        raise(&g1, c.sign, t1);
        raise(&g2, c.sign, t2);
        raise(&g3, c.sign, t3);
        if band + 1u + p.width <= p.bands {
            raise(&g0, c.sign, u0);
            raise(&g1, c.sign, u1);
            raise(&g2, c.sign, u2);
            raise(&g3, c.sign, u3);
        }
    }
#else
    for (var band = 0u; band + p.width <= p.bands; band++) {
        var t0: Rows;
        var t1: Rows;
        var t2: Rows;
        var t3: Rows;
        var weight = lane;
        for (var column = 0u; column < p.width; column++) {
            let at = x0 + band + column;
            var frame = first + lane - p.before; // wraps around before the clip
            var v0 = element(at, frame);
            var v1 = element(at, frame + 8u);
            var v2 = element(at, frame + 16u);
            var v3 = element(at, frame + 24u);
            for (var chunk = 0u; chunk < p.chunks; chunk++) {
                let v4 = element(at, frame + 32u);
                let w = taps_at(weight);
                add(&t0, w, v0, v1);
                add(&t1, w, v1, v2);
                add(&t2, w, v2, v3);
                add(&t3, w, v3, v4);
                v0 = v1;
                v1 = v2;
                v2 = v3;
                v3 = v4;
                frame += 8u;
                weight += TAPS * 8u;
            }
        }
        raise(&g0, c.sign, t0);
        raise(&g1, c.sign, t1);
        raise(&g2, c.sign, t2);
        raise(&g3, c.sign, t3);
    }
#endif
    let row = p.replica * p.batch + clip;
    put_rows(row, first, n, c, g0);
    put_rows(row, first + 8u, n, c, g1);
    put_rows(row, first + 16u, n, c, g2);
    put_rows(row, first + 24u, n, c, g3);
}
