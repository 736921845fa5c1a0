import { plainEncoderDecoder } from "../plain_encoder_decoder.ts";
import { parseTransformer } from "./config.ts";

/**
 * "Attention Is All You Need" (arXiv 1706.03762): norms after the sums (§3.1), embeddings shared by source, target and
 * output and scaled by √C (§3.4), sinusoidal positions (§3.5), ReLU (§3.3), dropout on sublayers and embeddings (§5.4).
 */
export const transformer = plainEncoderDecoder({ name: "transformer", parse: parseTransformer });
