// Rows whose width, offset or stride is no multiple of four: one f32 a load.

alias Elem = f32;

fn elem_sum(x: Elem) -> f32 {
  return x;
}
