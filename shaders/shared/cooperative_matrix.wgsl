// Cooperative matrices (tensor cores): a subgroup multiplies MATRIX x MATRIX operands in half precision and adds up the
// products in f32.
#ifdef MATRIX8
const MATRIX = 8u;
alias Left = coop_mat8x8<f16, A>;
alias Right = coop_mat8x8<f16, B>;
alias Product = coop_mat8x8<f32, C>;
#else
const MATRIX = 16u;
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Product = coop_mat16x16<f32, C>;
#endif
const ELEMENTS = MATRIX * MATRIX;

// Four times the most invocations of a subgroup, and at least ELEMENTS / 2.
override WORKGROUP_SIZE: u32 = 128u;

// The subgroup of an invocation, of four; subgroups are neighbouring invocations. Where they are smaller than their
// largest size there are more than four: the others repeat the work of the first four.
fn subgroup_of(local_index: u32) -> u32 { return subgroupMin(local_index) / subgroupAdd(1u) % 4u; }
