// Compiles WGSL with Tint, the compiler of Chromium's WebGPU, on a null device:
//   node scripts/tint.mjs FOLDER
// FOLDER contains resolved shaders, and index.json: [{ file, entryPoint, constants }, ...]. Needs the npm package
// `webgpu` in target/node (scripts/test installs it). Prints each shader or kernel that is rejected, then the counts.
// Exit status: 0, 1 for rejected ones, 3 if the package is missing.
import fs from 'node:fs';

let dawn;
try {
  dawn = await import(new URL('../target/node/node_modules/webgpu/index.js', import.meta.url));
} catch (e) {
  console.log(`no package webgpu: ${e.message}`);
  process.exit(3);
}
Object.assign(globalThis, dawn.globals);

const folder = process.argv[2];
// Keeps a reference, or it would be collected before the device.
const gpu = globalThis.dawnInstance = dawn.create(['backend=null']);
const adapter = await gpu.requestAdapter();
const wanted = ['subgroups', 'shader-f16'].filter(f => adapter.features.has(f));
const device = await adapter.requestDevice({ requiredFeatures: wanted });

/** What `make` returns, and the validation error it raises, if any. */
async function attempt(make) {
  device.pushErrorScope('validation');
  const made = make();
  const error = await device.popErrorScope();
  return [made, error && error.message.trim()];
}

const modules = new Map();
let accepted = 0, rejected = 0;
function reject(what, error) {
  rejected++;
  console.log(`${what}: ${error}`);
}
for (const { file, entryPoint, constants } of JSON.parse(fs.readFileSync(`${folder}/index.json`, 'utf8'))) {
  if (!modules.has(file)) {
    const [module, error] = await attempt(() =>
      device.createShaderModule({ code: fs.readFileSync(`${folder}/${file}`, 'utf8') }));
    modules.set(file, error ? null : module);
    if (error) reject(file, error);
  }
  const module = modules.get(file);
  if (!module) continue;
  const [, error] = await attempt(() =>
    device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint, constants } }));
  if (error) reject(`${file} ${entryPoint} ${JSON.stringify(constants)}`, error); else accepted++;
}
console.log(`${modules.size} shaders, ${accepted} kernels accepted, ${rejected} rejected`);
process.exit(rejected ? 1 : 0);
