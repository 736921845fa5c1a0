// Rows whose width, offset and stride are multiples of four: four f32 a load.

alias Elem = vec4<f32>;

fn elem_sum(x: Elem) -> f32 {
  return (x.x + x.y) + (x.z + x.w);
}
