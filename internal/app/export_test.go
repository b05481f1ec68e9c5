package app

// SealAuditEvery is for the tests.
const SealAuditEvery = sealAuditEvery
