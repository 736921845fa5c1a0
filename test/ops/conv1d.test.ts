import { runCases } from "../support/run_cases.ts";
import { cases } from "./conv1d.cases.ts";

await runCases(cases);
