// Rows whose width, offset or stride is no multiple of four: one f32 a load.

alias Elem = f32;

fn elem_sum(x: Elem) -> f32 {
  return x;
}

fn elem_max(x: Elem) -> f32 {
  return x;
}

const ELEM_WIDTH: u32 = 1u;

fn elem_at(x: Elem, i: u32) -> f32 {
  return x;
}
