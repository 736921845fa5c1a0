import { runCases } from "../support/run_cases.ts";
import { cases } from "./transpose.cases.ts";

await runCases(cases);
