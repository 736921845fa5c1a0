// What the host says of each row's next token. rules [rows, 1 + 2 · words]: bits of the penalty (f32), then a bit a token for
// banned ones and for seen ones. The linking kernel has params.words.

@group(0) @binding(4) var<storage, read> rules: array<u32>;

fn rule_penalty(row: u32) -> f32 {
  return bitcast<f32>(rules[row * (1u + 2u * params.words)]);
}

fn rule_bit(row: u32, kind: u32, token: u32) -> bool {
  let word = rules[row * (1u + 2u * params.words) + 1u + kind * params.words + token / 32u];
  return ((word >> (token % 32u)) & 1u) == 1u;
}

fn rule_banned(row: u32, token: u32) -> bool {
  return rule_bit(row, 0u, token);
}

fn rule_seen(row: u32, token: u32) -> bool {
  return rule_bit(row, 1u, token);
}
