import { badFile } from "./json_fields.ts";

/** One field of a protobuf message: a number, or the bytes of a string or of a message in it. */
export interface ProtoField {
  readonly number: number;
  readonly value: number | Uint8Array;
}

/**
 * The fields of a protobuf message in their order, each checked to lie in it. Varints above 2^53 lose their low bits: nothing
 * that is read here has them. Throws `BAD_FILE`.
 * Source: the encoding chapter of the Protocol Buffers documentation.
 */
export function* readFields(bytes: Uint8Array): Generator<ProtoField> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) throw cutShort();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw badFile("a number in a protobuf must have at most ten bytes", "more");
  };
  while (at < bytes.length) {
    const key = varint();
    const number = Math.floor(key / 8);
    switch (key % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        if (at + 8 > bytes.length) throw cutShort();
        at += 8;
        yield { number, value: view.getFloat64(at - 8, true) };
        break;
      case 2: {
        const length = varint();
        if (length > bytes.length - at) throw cutShort();
        at += length;
        yield { number, value: bytes.subarray(at - length, at) };
        break;
      }
      case 5:
        if (at + 4 > bytes.length) throw cutShort();
        at += 4;
        yield { number, value: view.getFloat32(at - 4, true) };
        break;
      default:
        throw badFile("a protobuf's fields must be of the known kinds", `kind ${key % 8}`);
    }
  }
}

function cutShort(): Error {
  return badFile("a protobuf must hold its fields whole", "one that goes on past the end");
}
