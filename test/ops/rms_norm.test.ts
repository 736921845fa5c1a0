import { runCases } from "../support/run_cases.ts";
import { cases } from "./rms_norm.cases.ts";

await runCases(cases);
