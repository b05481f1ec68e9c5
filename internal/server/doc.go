// Package server is the door of the gateway: the public and the admin listener, the GraphQL transport over
// gqlgen's executor, the callbacks of the providers, and the limits that hold before any of our own logic runs.
//
// A request is refused as early and as cheaply as it can be, and always in one of three shapes, which
// the security page of the project names P1, P2 and P3:
//
//	P1  an HTTP status and {"errors": […]} without data: the request never became a document
//	P2  a document we will not run: 200 for application/json, 400 for application/graphql-response+json
//	P3  401 with one constant body, before the body of the request is read
//
// Nothing that a caller sent is ever written back or logged: no body, no query, no variable, no header, no
// operation name, no URL query. Messages are constants, with locations, names of our own schema and numbers
// of our own limits. The letters and digits in comments (T07, D04, C02 …) are the rows of that page.
package server
