// Every sequence begins, has a prefix and ends where the others do; no slopes and no sinks.

fn sequence_start(batch: u32) -> u32 {
  return params.position;
}

fn sequence_prefix(batch: u32) -> u32 {
  return params.prefix;
}

fn sequence_keys(batch: u32) -> u32 {
  return params.length;
}

fn head_slope(head: u32) -> f32 {
  return 0.0;
}

fn head_sink(head: u32) -> f32 {
  return MASKED;
}
