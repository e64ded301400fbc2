// Magnitudes of complex filters of different lengths at frame centres.
//
//   forward    y (B, T, K) = |sum over j of h_k[j] x[t hop + first_k + j - centre]|
//
// Four neighbouring filters make a group, zeros where one is shorter. An invocation holds the sums of one group for four frames;
// a workgroup works on GROUPS groups and 4 LANES frames of any clips, and takes as long as the longest of its filters.
#import grid

override LANES: u32;     // invocations along the frames
override GROUPS: u32;    // and along the groups of filters
override WORKERS: u32;   // LANES GROUPS
override ROWS: u32;      // frames of a workgroup: 4 LANES
override TILE: u32;      // samples in workgroup memory: SLICE (ROWS + 1)
// Whether all invocations fetch the samples for each other. Without, each reads its own.
override STAGED: bool;

struct Params {
    b: u32,
    s: u32,              // samples per clip
    t: u32,              // frames per clip
    k: u32,              // filters
    groups: u32,
    hop: u32,
    centre: i32,
    x_stride: u32,       // elements from one replica to the next
}

struct Group {
    first: u32,
    count: u32,          // taps
    at: u32,             // in h, in taps
}

struct Tap {
    re: vec4<f32>,       // of the group's four filters
    im: vec4<f32>,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (B, S) every x_stride
@group(0) @binding(2) var<storage, read> groups: array<Group>;  // (groups)
@group(0) @binding(3) var<storage, read> h: array<Tap>;         // all groups, one after the other
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // (R, B, T, K)

const SLICE = 16u;
// Of a row without a frame: before every clip.
const NOWHERE = -0x40000000;

var<workgroup> tile: array<f32, TILE>;       // (SLICE, ROWS + 1): the padding spreads a frame's samples over the banks
var<workgroup> start: array<vec2<i32>, ROWS>; // of each frame, as `origin` gives it

// Where the frame's samples start within its clip for first_k = 0, and where the clip starts in x.
fn origin(row: u32, replica: u32) -> vec2<i32> {
    if row >= p.b * p.t { return vec2(NOWHERE, 0); }
    let b = row / p.t;
    return vec2(i32((row - b * p.t) * p.hop) - p.centre, i32(replica * p.x_stride + b * p.s));
}

// Silence around the clip.
fn sample(frame: vec2<i32>, j: u32) -> f32 {
    let at = frame.x + i32(j);
    if at < 0 || at >= i32(p.s) { return 0.0; }
    return x[frame.y + at];
}

@compute @workgroup_size(LANES, GROUPS)
fn cqt_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_id) local: vec3<u32>, @builtin(local_invocation_index) worker: u32) {
    let tiles = (p.b * p.t + ROWS - 1u) / ROWS;
    let block = group_index(id, count);
    let first_group = block / tiles * GROUPS;
    // The last row of a folded grid may reach beyond the end; such a workgroup leaves as a whole.
    if first_group >= p.groups { return; }
    let first_row = block % tiles * ROWS;

    // From the first to beyond the last tap of any filter of this workgroup.
    var begin = groups[first_group].first;
    var end = begin + groups[first_group].count;
    for (var g = first_group + 1u; g < min(first_group + GROUPS, p.groups); g++) {
        begin = min(begin, groups[g].first);
        end = max(end, groups[g].first + groups[g].count);
    }
    var own = Group(0u, 0u, 0u);
    let group = first_group + local.y;
    if group < p.groups { own = groups[group]; }

    let row = first_row + local.x;
    let f0 = origin(row, id.z);
    let f1 = origin(row + LANES, id.z);
    let f2 = origin(row + 2u * LANES, id.z);
    let f3 = origin(row + 3u * LANES, id.z);
    if STAGED {
        for (var r = worker; r < ROWS; r += WORKERS) { start[r] = origin(first_row + r, id.z); }
    }
    var re0 = vec4(0.0);
    var re1 = vec4(0.0);
    var re2 = vec4(0.0);
    var re3 = vec4(0.0);
    var im0 = vec4(0.0);
    var im1 = vec4(0.0);
    var im2 = vec4(0.0);
    var im3 = vec4(0.0);
    for (; begin < end; begin += SLICE) {
        if STAGED {
            workgroupBarrier();
            for (var i = worker; i < ROWS * SLICE; i += WORKERS) {
                let r = i / SLICE;
                let j = i % SLICE;
                tile[j * (ROWS + 1u) + r] = sample(start[r], begin + j);
            }
            workgroupBarrier();
        }
        let stop = min(begin + SLICE, own.first + own.count);
        for (var j = max(begin, own.first); j < stop; j++) {
            var v: vec4<f32>;
            if STAGED {
                let at = (j - begin) * (ROWS + 1u) + local.x;
                v = vec4(tile[at], tile[at + LANES], tile[at + 2u * LANES], tile[at + 3u * LANES]);
            } else {
                v = vec4(sample(f0, j), sample(f1, j), sample(f2, j), sample(f3, j));
            }
            let tap = h[own.at + j - own.first];
            re0 += v.x * tap.re;
            im0 += v.x * tap.im;
            re1 += v.y * tap.re;
            im1 += v.y * tap.im;
            re2 += v.z * tap.re;
            im2 += v.z * tap.im;
            re3 += v.w * tap.re;
            im3 += v.w * tap.im;
        }
    }
    if group >= p.groups { return; }
    let magnitudes = array(sqrt(re0 * re0 + im0 * im0), sqrt(re1 * re1 + im1 * im1),
                           sqrt(re2 * re2 + im2 * im2), sqrt(re3 * re3 + im3 * im3));
    for (var i = 0u; i < 4u; i++) {
        let frame = row + i * LANES;
        if frame >= p.b * p.t { break; }
        let at = (id.z * p.b * p.t + frame) * p.k + 4u * group;
        for (var k = 0u; k < min(4u, p.k - 4u * group); k++) {
            y[at + k] = magnitudes[i][k];
        }
    }
}
