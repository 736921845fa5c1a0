interface Chunk {
  readonly type: string;
  readonly data: Buffer;
}

/** Joins PNG pictures of one size into an animated PNG (PNG specification, third edition, §11.3.4) that runs for ever. */
export function animatedPng(frames: readonly { readonly png: Buffer; readonly ms: number }[]): Buffer {
  const pictures = frames.map(({ png }) => chunksOf(png));
  const header = pictures[0]?.find(({ type }) => type === "IHDR")?.data;
  if (!header) throw new Error("an animation needs a picture");
  const control = Buffer.alloc(8);
  control.writeUInt32BE(frames.length, 0);
  const out = [Buffer.from("89504e470d0a1a0a", "hex"), written("IHDR", header), written("acTL", control)];
  let sequence = 0;
  pictures.forEach((chunks, i) => {
    if (!chunks.find(({ type }) => type === "IHDR")?.data.equals(header))
      throw new Error(`picture ${i} has another size`);
    out.push(written("fcTL", frameControl(header, sequence++, frames[i]?.ms ?? 100)));
    for (const { data } of chunks.filter(({ type }) => type === "IDAT")) {
      // The first picture is what a viewer without animation shows.
      if (i === 0) out.push(written("IDAT", data));
      else out.push(written("fdAT", Buffer.concat([bigEndian(sequence++), data])));
    }
  });
  return Buffer.concat([...out, written("IEND", Buffer.of())]);
}

function frameControl(header: Buffer, sequence: number, ms: number): Buffer {
  const data = Buffer.alloc(26);
  data.writeUInt32BE(sequence, 0);
  // Width and height; no offset.
  header.copy(data, 4, 0, 8);
  data.writeUInt16BE(ms, 20);
  data.writeUInt16BE(1000, 22);
  return data;
}

function chunksOf(png: Buffer): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = 8; at < png.length; ) {
    const bytes = png.readUInt32BE(at);
    chunks.push({ type: png.toString("latin1", at + 4, at + 8), data: png.subarray(at + 8, at + 8 + bytes) });
    at += 12 + bytes;
  }
  return chunks;
}

function written(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  return Buffer.concat([bigEndian(data.length), body, bigEndian(crc32(body))]);
}

function bigEndian(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0, 0);
  return bytes;
}

function crc32(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}
