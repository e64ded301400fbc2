// Replays recorded plans with WebGPU: buffers, pipelines, bindings and workgroups are data (`plan.json`).

export class Unsupported extends Error {}

const BROWSERS = "Chrome or Edge 113, Safari 26, Firefox 141 on Windows or 145 on macOS, or a later version";
// What every kernel needs beside its buffers: WebGPU's defaults, which weak adapters in compatibility mode lack.
const NEEDS = {
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
};
const ALIGN = 256; // Of uniforms.
const TOGETHER = 16; // Dispatches of a submission: a long one would stop the screen.

async function device(needs) {
  if (!navigator.gpu) {
    const why = window.isSecureContext ? "This browser has no WebGPU" : "WebGPU needs https:// or http://localhost";
    throw new Unsupported(`${why}. It is in ${BROWSERS}.`);
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Unsupported(`WebGPU finds no GPU that it can use. It is in ${BROWSERS}; see chrome://gpu.`);
  for (const [limit, need] of Object.entries(needs)) {
    const have = adapter.limits[limit];
    if (have < need) throw new Unsupported(`This GPU is too small: ${limit} is ${have}, and ${need} is needed.`);
  }
  return { device: await adapter.requestDevice({ requiredLimits: needs }), info: adapter.info };
}

function halves(bits) {
  const table = (halves.table ??= Float32Array.from({ length: 65536 }, (_, h) => {
    const [sign, exponent, fraction] = [h & 0x8000 ? -1 : 1, (h >> 10) & 31, h & 1023];
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }));
  return Float32Array.from(bits, (h) => table[h]);
}

export class Player {
  // `shared`: of `plan.json`. `progress(share)`: of the download.
  static async open(shared, progress = () => {}) {
    const player = new Player();
    const opened = await device({ ...NEEDS, ...shared.needs });
    Object.assign(player, opened, { shared, contents: [], pipelines: [], modules: [] });
    player.lost = player.device.lost.then((loss) => {
      throw new Error(`The GPU was lost: ${loss.message || loss.reason}. Load the page again.`);
    });
    player.lost.catch(() => {});
    player.bytes = await download("weights.bin", shared.bytes, progress);
    return player;
  }

  buffer(len, words) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = this.device.createBuffer({ size: Math.max(16, Math.ceil(len / 4) * 16), usage });
    if (words) this.device.queue.writeBuffer(buffer, 0, words);
    return buffer;
  }

  // What a buffer contains at first, in words of 32 bits.
  words(index) {
    const { at, len, dtype, block } = this.shared.contents[index];
    if (dtype === "i8") {
      const scales = new Float32Array(this.bytes, at, Math.ceil(len / block));
      const codes = new Int8Array(this.bytes, at + 4 * scales.length, len);
      return Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / block)]);
    }
    return dtype === "f16" ? halves(new Uint16Array(this.bytes, at, len)) : new Uint32Array(this.bytes, at, len);
  }

  content(index) {
    return (this.contents[index] ??= this.buffer(this.shared.contents[index].len, this.words(index)));
  }

  pipeline(index) {
    const { shader, entry, constants } = this.shared.pipelines[index];
    const module = async () => this.device.createShaderModule({ code: await text(this.shared.shaders[shader]) });
    return (this.pipelines[index] ??= (async () =>
      this.device.createComputePipelineAsync({
        layout: "auto",
        compute: { module: await (this.modules[shader] ??= module()), entryPoint: entry, constants },
      }))());
  }

  // What WebGPU rejects in `work` is an error.
  async checked(work) {
    for (const kind of ["validation", "out-of-memory"]) this.device.pushErrorScope(kind);
    const made = await work();
    for (const error of [await this.device.popErrorScope(), await this.device.popErrorScope()]) {
      if (error) throw new Error(`GPU: ${error.message}`);
    }
    return made;
  }

  // Builds a plan. `fresh`: with buffers of its own that it may overwrite, not those shared by all plans.
  plan(data, fresh = false) {
    return this.checked(async () => {
      const pipelines = await Promise.all(data.steps.map((step) => this.pipeline(step.pipeline)));
      const inputs = {};
      const buffers = data.buffers.map(({ len, content, input }) => {
        const known = () => (fresh ? this.buffer(len, this.words(content)) : this.content(content));
        const buffer = content === undefined ? this.buffer(len) : known();
        if (input) inputs[input] = buffer;
        return buffer;
      });
      const size = (step) => Math.max(16, step.params.length * 4);
      const stride = (step) => Math.ceil(size(step) / ALIGN) * ALIGN;
      const uniforms = new Uint32Array(data.steps.reduce((sum, step) => sum + stride(step), 0) / 4);
      const uniform = this.buffer(uniforms.length);
      let at = 0;
      const steps = data.steps.map((step, i) => {
        const range = (buffer, offset, len) => ({ buffer, offset: 4 * offset, size: 4 * len });
        const entries = step.bindings.map(([binding, buffer, offset, len]) => ({
          binding,
          resource: range(buffers[buffer], offset, len),
        }));
        const { uniform: binding } = this.shared.pipelines[step.pipeline];
        if (binding !== null)
          entries.push({ binding, resource: { buffer: uniform, offset: 4 * at, size: size(step) } });
        uniforms.set(step.params, at);
        at += stride(step) / 4;
        const layout = pipelines[i].getBindGroupLayout(0);
        return { pipeline: pipelines[i], bound: this.device.createBindGroup({ layout, entries }), groups: step.groups };
      });
      this.device.queue.writeBuffer(uniform, 0, uniforms);
      return new Plan(this, steps, buffers, inputs, data.read);
    });
  }
}

class Plan {
  constructor(player, steps, buffers, inputs, read) {
    Object.assign(this, { player, steps, buffers, inputs, read });
  }

  // Of one that is not used again, and was `fresh`.
  destroy() {
    this.buffers.forEach((buffer) => buffer.destroy());
  }

  // Replaces the first elements of an input.
  write(input, values) {
    const buffer = this.inputs[input];
    if (!buffer) throw new Error(`The plan has no input ${input}: the page's files are of different versions`);
    this.player.device.queue.writeBuffer(buffer, 0, values);
  }

  // Replays the plan; returns what is read, as floats.
  async run() {
    const { device, lost } = this.player,
      { steps, buffers, read } = this;
    const total = read.reduce((sum, [, , len]) => sum + len, 0);
    const staging = device.createBuffer({ size: 4 * total, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    for (let first = 0; first < steps.length; first += TOGETHER) {
      const encoder = device.createCommandEncoder(),
        pass = encoder.beginComputePass();
      for (const { pipeline, bound, groups } of steps.slice(first, first + TOGETHER)) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bound);
        pass.dispatchWorkgroups(...groups);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    const encoder = device.createCommandEncoder();
    let at = 0;
    for (const [buffer, offset, len] of read) {
      encoder.copyBufferToBuffer(buffers[buffer], 4 * offset, staging, at, 4 * len);
      at += 4 * len;
    }
    device.queue.submit([encoder.finish()]);
    await Promise.race([staging.mapAsync(GPUMapMode.READ), lost]);
    const values = new Float32Array(staging.getMappedRange().slice(0));
    staging.destroy();
    at = 0;
    return read.map(([, , len]) => values.subarray(at, (at += len)));
  }
}

async function fetched(file) {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file} cannot be loaded (${response.status}): is the folder complete?`);
  return response;
}

const text = async (file) => (await fetched(file)).text();
export const json = async (file) => (await fetched(file)).json();

async function download(file, size, progress) {
  const reader = (await fetched(file)).body.getReader(),
    bytes = new Uint8Array(size);
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) at = size + 1;
    if (at > size) break;
    bytes.set(value, at);
    progress((at += value.length) / Math.max(1, size));
  }
  if (at !== size) throw new Error(`${file} is not complete: load the page again`);
  return bytes.buffer;
}
