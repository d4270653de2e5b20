// Package workspace serves host folders to a guest over virtiofs.
package workspace
