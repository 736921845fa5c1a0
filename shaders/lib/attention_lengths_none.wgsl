// Every sequence has all `params.keys` keys.

fn sequence_keys(batch: u32) -> u32 {
  return params.keys;
}
