// Fourier transforms of lengths that are products of small primes.

const plans = new Map();

function planOf(n) {
  if (!plans.has(n)) {
    const factors = [],
      cos = new Float64Array(n),
      sin = new Float64Array(n);
    for (let rest = n, p = 2; rest > 1;) {
      if (rest % p === 0) {
        factors.push(p);
        rest /= p;
      } else p = p * p > rest ? rest : p + 1;
    }
    for (let i = 0; i < n; i++) [cos[i], sin[i]] = [Math.cos((2 * Math.PI * i) / n), Math.sin((2 * Math.PI * i) / n)];
    plans.set(n, { factors, cos, sin });
  }
  return plans.get(n);
}

// sum over t of (re[t] + i im[t]) exp(-2 pi i k t / n), with `inverse` exp(+...): [real, imaginary] parts, not scaled.
export function fft(re, im, inverse = false) {
  const n = re.length,
    { factors, cos, sin } = planOf(n),
    sign = inverse ? 1 : -1;
  const [outRe, outIm] = [new Float64Array(n), new Float64Array(n)];
  const [partRe, partIm] = [new Float64Array(Math.max(1, ...factors)), new Float64Array(Math.max(1, ...factors))];
  // Decimation in time: `length` values from `from` on, `stride` apart.
  const pass = (at, length, from, stride, depth) => {
    if (length === 1) {
      outRe[at] = re[from];
      outIm[at] = im[from];
      return;
    }
    const p = factors[depth],
      part = length / p;
    for (let r = 0; r < p; r++) pass(at + r * part, part, from + r * stride, stride * p, depth + 1);
    for (let k = 0; k < part; k++) {
      for (let r = 0; r < p; r++) [partRe[r], partIm[r]] = [outRe[at + r * part + k], outIm[at + r * part + k]];
      for (let q = 0; q < p; q++) {
        let [a, b] = [0, 0];
        for (let r = 0; r < p; r++) {
          const turn = (r * (k + q * part) * stride) % n,
            c = cos[turn],
            s = sign * sin[turn];
          a += partRe[r] * c - partIm[r] * s;
          b += partRe[r] * s + partIm[r] * c;
        }
        outRe[at + q * part + k] = a;
        outIm[at + q * part + k] = b;
      }
    }
  };
  pass(0, n, 0, 1, 0);
  return [outRe, outIm];
}
