// Dense q, k, v of any head size and stride: elements are loaded one by one, and read as 0 past the head's end.
// `Element`, `element_slot` and `unpack_element` come from the element_*.wgsl part of the tensors' dtype.

@group(0) @binding(1) var<storage, read> q: array<Element>;
@group(0) @binding(2) var<storage, read> k: array<Element>;
@group(0) @binding(3) var<storage, read> v: array<Element>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

fn q_element(at: u32, d: u32) -> f32 {
  let i = at + min(d, params.head_dim - 1u);
  return select(0.0, unpack_element(q[element_slot(i)], i), d < params.head_dim);
}

fn k_element(at: u32, d: u32) -> f32 {
  let i = at + min(d, params.head_dim - 1u);
  return select(0.0, unpack_element(k[element_slot(i)], i), d < params.head_dim);
}

fn v_element(at: u32, d: u32) -> f32 {
  let i = at + min(d, params.value_dim - 1u);
  return select(0.0, unpack_element(v[element_slot(i)], i), d < params.value_dim);
}

fn load_q(at: u32, column: u32) -> vec4<f32> {
  let d = column * 4u;
  return vec4<f32>(q_element(at, d), q_element(at, d + 1u), q_element(at, d + 2u), q_element(at, d + 3u));
}

fn load_k(at: u32, column: u32) -> vec4<f32> {
  let d = column * 4u;
  return vec4<f32>(k_element(at, d), k_element(at, d + 1u), k_element(at, d + 2u), k_element(at, d + 3u));
}

fn load_v(at: u32, column: u32) -> vec4<f32> {
  let d = column * 4u;
  return vec4<f32>(v_element(at, d), v_element(at, d + 1u), v_element(at, d + 2u), v_element(at, d + 3u));
}

fn load_out(at: u32, column: u32) -> vec4<f32> {
  let d = column * 4u;
  let last = params.value_dim - 1u;
  return vec4<f32>(out[at + d], out[at + min(d + 1u, last)], out[at + min(d + 2u, last)], out[at + min(d + 3u, last)]);
}

fn store_out(at: u32, column: u32, value: vec4<f32>) {
  let d = column * 4u;
  for (var i = 0u; i < min(4u, params.value_dim - d); i++) {
    out[at + d + i] = value[i];
  }
}
