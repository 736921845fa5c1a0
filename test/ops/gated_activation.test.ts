import { runCases } from "../support/run_cases.ts";
import { cases } from "./gated_activation.cases.ts";

await runCases(cases);
