// What sampling makes of a logit before anything is chosen. Logits are read as bits, since WGSL may assume that no float
// is NaN or infinite.

// Stands for −Infinity: a masked logit.
const MASKED: f32 = -1e30;
// The token of a row that has none: NaN or +Infinity among its logits, or all of them masked.
const FAILED: u32 = 0xffffffffu;
// Offsets within the words of a slot's settings; `packSampling` writes them.
const SAMPLING_WORDS: u32 = 12u;
const TEMPERATURE: u32 = 0u;
const TOP_K: u32 = 1u;
const TOP_P: u32 = 2u;
const MIN_P: u32 = 3u;
const REPETITION_PENALTY: u32 = 4u;
const SEED: u32 = 5u;

// NaN of either sign, or +Infinity.
fn is_unusable(bits: u32) -> bool {
  return (bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u;
}

// The logit with the repetition penalty applied to tokens that were seen; MASKED for −Infinity.
// Source: Keskar et al., "CTRL" (2019), §4.1.
fn penalised(bits: u32, is_seen: bool, penalty: f32) -> f32 {
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    return MASKED;
  }
  let x = bitcast<f32>(bits);
  let changed = select(x / penalty, x * penalty, x < 0.0);
  // Finite whatever the penalty: differences of scores have to be.
  return clamp(select(x, changed, is_seen), MASKED, -MASKED);
}
