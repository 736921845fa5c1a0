// Rows whose width, offset and stride are multiples of four: four f32 a load.

alias Elem = vec4<f32>;

fn elem_sum(x: Elem) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}

fn elem_max(x: Elem) -> f32 {
  return max(max(x.x, x.y), max(x.z, x.w));
}

const ELEM_WIDTH: u32 = 4u;

fn elem_at(x: Elem, i: u32) -> f32 {
  return x[i];
}
