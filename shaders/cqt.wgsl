// Magnitudes of complex filters of different lengths at frame centres.
//
//   forward    y (B, T, K) = |sum over j of h_k[j] x[t hop + first_k + j - centre]|
//
// 64 invocations work on 64 rows (frames of any clips) and 4 groups of filters, each on 4 rows and one group. They load
// the rows' samples together, a slice at a time, up to the end of their longest filter.
#import grid
#import cqt

const LANES = 16u;       // invocations along the rows
const GROUPS = 4u;       // and along the groups of filters
const WORKGROUP_SIZE = 64u;
const ROWS = 64u;
const SLICE = 16u;       // samples of each row in workgroup memory

var<workgroup> tile: array<f32, 1040>;        // (SLICE, ROWS + 1): the padding spreads a row's samples over the banks
var<workgroup> start: array<vec2<i32>, ROWS>; // `origin` of each row

@compute @workgroup_size(LANES, GROUPS)
fn cqt_forward(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
               @builtin(local_invocation_id) local: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
    let tiles = (p.b * p.t + ROWS - 1u) / ROWS;
    let block = group_index(id, count);
    let first_group = block / tiles * GROUPS;
    // The last row of a folded grid may reach beyond the end; such a workgroup returns as a whole.
    if first_group >= p.groups { return; }
    let first_row = block % tiles * ROWS;

    // From the first to beyond the last tap of any filter of this workgroup.
    var begin = groups[first_group].first;
    var end = begin + groups[first_group].count;
    for (var g = first_group + 1u; g < min(first_group + GROUPS, p.groups); g++) {
        begin = min(begin, groups[g].first);
        end = max(end, groups[g].first + groups[g].count);
    }
    let group = first_group + local.y;
    var own = Group(0u, 0u, 0u);
    if group < p.groups { own = groups[group]; }
    start[local_index] = origin(first_row + local_index, id.z);

    var re: array<vec4<f32>, 4>;
    var im: array<vec4<f32>, 4>;
    for (; begin < end; begin += SLICE) {
        workgroupBarrier();
        for (var i = local_index; i < ROWS * SLICE; i += WORKGROUP_SIZE) {
            let row = i / SLICE;
            let j = i % SLICE;
            tile[j * (ROWS + 1u) + row] = sample_at(start[row], begin + j);
        }
        workgroupBarrier();
        let stop = min(begin + SLICE, own.first + own.count);
        for (var j = max(begin, own.first); j < stop; j++) {
            let at = (j - begin) * (ROWS + 1u) + local.x;
            let tap = 2u * (own.at + j - own.first);
            for (var i = 0u; i < 4u; i++) {
                re[i] += tile[at + i * LANES] * h[tap];
                im[i] += tile[at + i * LANES] * h[tap + 1u];
            }
        }
    }
    if group >= p.groups { return; }
    for (var i = 0u; i < 4u; i++) {
        put(id.z, first_row + local.x + i * LANES, group, re[i], im[i]);
    }
}
