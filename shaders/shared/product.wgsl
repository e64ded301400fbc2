// What a kernel of tiled products begins with: the extensions of WGSL that its variant needs, and the product in a
// tile, plain or of cooperative matrices.
#ifdef F16
enable f16;
#endif
#ifdef COOPERATIVE
enable subgroups;
enable wgpu_cooperative_matrix;
#endif
#import grid
#ifdef COOPERATIVE
#import cooperative_product
#else
#import tile_product
#endif
