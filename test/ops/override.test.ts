import { runCases } from "../support/run_cases.ts";
import { cases } from "./override.cases.ts";

await runCases(cases);
