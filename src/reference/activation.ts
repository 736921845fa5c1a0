/** The elementwise activations, by the names that kernels and configs of Heed use. */
export type ActivationName = "relu" | "gelu" | "gelu_tanh" | "silu" | "sigmoid" | "tanh";

interface ActivationRule {
  value(x: number): number;
  derivative(x: number): number;
}

const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;

/** Both forms and their derivatives; `gelu` is the exact one, `gelu_tanh` GPT-2's (Hendrycks and Gimpel 2016, §2). */
const RULES: Record<ActivationName, ActivationRule> = {
  relu: { value: (x) => Math.max(x, 0), derivative: (x) => (x > 0 ? 1 : 0) },
  gelu: {
    value: (x) => x * normalCdf(x),
    derivative: (x) => normalCdf(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  },
  gelu_tanh: {
    value: (x) => 0.5 * x * (1 + Math.tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x ** 3))),
    derivative: (x) => {
      const t = Math.tanh(SQRT_2_OVER_PI * (x + GELU_CUBIC * x ** 3));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x * x);
    },
  },
  silu: {
    value: (x) => x * sigmoid(x),
    derivative: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  },
  sigmoid: { value: sigmoid, derivative: (x) => sigmoid(x) * (1 - sigmoid(x)) },
  tanh: { value: Math.tanh, derivative: (x) => 1 - Math.tanh(x) ** 2 },
};

/** The activation of one number. */
export function activationValue(name: ActivationName, x: number): number {
  return RULES[name].value(x);
}

/** The derivative of the activation at one number; 0 for `relu` at 0. */
export function activationDerivative(name: ActivationName, x: number): number {
  return RULES[name].derivative(x);
}

/** `out[i] = act(x[i])`; any shape. */
export function activation(name: ActivationName, x: Float64Array): Float64Array {
  return x.map((value) => activationValue(name, value));
}

/** Gradient of {@link activation}: `dx[i] = dout[i] · act'(x[i])`; any shape. */
export function activationBackward(name: ActivationName, x: Float64Array, dout: Float64Array): Float64Array {
  return x.map((value, i) => dout[i]! * activationDerivative(name, value));
}

/** `1 / (1 + e^−x)`, without overflow for large negative x. */
function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** `Φ(x) = erfc(−x/√2) / 2`, which keeps its relative accuracy in the left tail. */
function normalCdf(x: number): number {
  return 0.5 * erfc(-x / Math.SQRT2);
}

/** The error function to about 1e-15: a series of positive terms near 0, a continued fraction beyond 2. */
export function erf(x: number): number {
  if (Math.abs(x) > 2) return Math.sign(x) * (1 - erfcTail(Math.abs(x)));
  return erfSeries(x);
}

/** `1 − erf(x)`, relatively accurate to about 1e-13 where it is tiny. */
export function erfc(x: number): number {
  if (x > 2) return erfcTail(x);
  if (x < -2) return 2 - erfcTail(-x);
  return 1 - erfSeries(x);
}

/** Abramowitz and Stegun 7.1.6: `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1))`. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** Abramowitz and Stegun 7.1.14, evaluated from the inside; x > 2. */
function erfcTail(x: number): number {
  let fraction = x;
  for (let k = 120; k >= 1; k--) fraction = x + k / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}
