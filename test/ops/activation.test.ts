import { runCases } from "../support/run_cases.ts";
import { cases } from "./activation.cases.ts";

await runCases(cases);
