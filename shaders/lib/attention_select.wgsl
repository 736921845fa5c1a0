// Hard selection: the one-hot of the largest score of each row, the first of equals.

@group(0) @binding(9) var<storage, read_write> selection: array<f32>;

// The least candidate of the row; keys are below 2^24, so f32 holds them exactly.
fn chosen_key(candidate: u32, local: u32) -> u32 {
  return u32(-workgroup_max(-f32(candidate), local));
}

fn store_selection(at: u32, is_chosen: bool) {
  selection[at] = select(0.0, 1.0, is_chosen);
}
