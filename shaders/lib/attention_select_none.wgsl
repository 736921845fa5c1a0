// Soft selection: the weights themselves are the result.

fn chosen_key(candidate: u32, local: u32) -> u32 {
  return candidate;
}

fn store_selection(at: u32, is_chosen: bool) {}
