// What the host says of each row's next token. rules [rows, 3 + 2 · words]: bits of the penalty (f32), 1 where scores are those of
// the tokens that are left, the first of the tokens that count together (past the vocabulary for none), then a bit a token for
// banned ones and for seen ones. The linking kernel has params.words.

@group(0) @binding(4) var<storage, read> rules: array<u32>;

const HAS_RULES: bool = true;

fn rule_penalty(row: u32) -> f32 {
  return bitcast<f32>(rules[row * (3u + 2u * params.words)]);
}

fn rule_renormalised(row: u32) -> bool {
  return rules[row * (3u + 2u * params.words) + 1u] == 1u;
}

fn rule_group(row: u32) -> u32 {
  return rules[row * (3u + 2u * params.words) + 2u];
}

fn rule_bit(row: u32, kind: u32, token: u32) -> bool {
  let word = rules[row * (3u + 2u * params.words) + 3u + kind * params.words + token / 32u];
  return ((word >> (token % 32u)) & 1u) == 1u;
}

fn rule_banned(row: u32, token: u32) -> bool {
  return rule_bit(row, 0u, token);
}

fn rule_seen(row: u32, token: u32) -> bool {
  return rule_bit(row, 1u, token);
}
