// The rotary embedding of one channel of a head. Channels [0, rotary) of a head turn in pairs, the rest stay as they are.
// A pair is (i, i + rotary/2), or (2i, 2i + 1) where interleaved; its angles lie in the table [positions, rotary/2, 2] as
// (cos, sin), made on the host in float64: WGSL's sin and cos err by 5e-3 at angles of 1e5 on some adapters.
// Source: Su et al., "RoFormer" (2021), §3.2.2 and eq. 34.

// The channel that `c` turns with.
fn rotary_partner(c: u32, rotary: u32, interleaved: u32) -> u32 {
  if (interleaved != 0u) {
    return c ^ 1u;
  }
  return select(c - rotary / 2u, c + rotary / 2u, c < rotary / 2u);
}

// Index of the pair that `c` belongs to.
fn rotary_pair(c: u32, rotary: u32, interleaved: u32) -> u32 {
  if (interleaved != 0u) {
    return c / 2u;
  }
  return select(c - rotary / 2u, c, c < rotary / 2u);
}

// The turned value of channel `c` from its own value and its partner's.
fn rotary_turn(c: u32, own: f32, partner: f32, angle: vec2<f32>, rotary: u32, interleaved: u32) -> f32 {
  let first = select(c < rotary / 2u, (c & 1u) == 0u, interleaved != 0u);
  return own * angle.x + select(partner, -partner, first) * angle.y;
}
