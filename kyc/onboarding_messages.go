package kyc

import (
	"context"

	"golang.org/x/text/language"
)

// What a person is told to do next, in their language. It names no provider and repeats no code of one.
var (
	languages = language.NewMatcher([]language.Tag{language.English, language.Portuguese, language.Spanish})

	actionMessages = map[NextActionKind][3]string{ // English, Portuguese, Spanish
		ActionRegisterPerson:  {"Tell us who you are.", "Informe seus dados.", "Indícanos tus datos."},
		ActionCaptureFace:     {"Take a picture of your face.", "Tire uma foto do seu rosto.", "Toma una foto de tu rostro."},
		ActionNewCapture:      {"Take a new picture of your face, in even light and without glasses or hat.", "Tire uma nova foto do seu rosto, com boa luz e sem óculos ou chapéu.", "Toma una nueva foto de tu rostro, con buena luz y sin gafas ni sombrero."},
		ActionCaptureDocument: {"Take a picture of your identity document.", "Tire uma foto do seu documento de identidade.", "Toma una foto de tu documento de identidad."},
		ActionCorrectData:     {"Check your data and correct it.", "Confira e corrija seus dados.", "Revisa y corrige tus datos."},
		ActionAcceptTerms:     {"Read and accept the terms.", "Leia e aceite os termos.", "Lee y acepta los términos."},
		ActionWait:            {"Please wait: we are checking your data and go on by ourselves.", "Aguarde: estamos verificando seus dados e continuaremos automaticamente.", "Espera, por favor: estamos verificando tus datos y seguiremos automáticamente."},
		ActionRetry:           {"Something went wrong on our side. Please try again.", "Algo deu errado do nosso lado. Tente novamente.", "Algo salió mal de nuestro lado. Inténtalo de nuevo."},
		ActionContactSupport:  {"We cannot go on here. Please contact support.", "Não podemos continuar por aqui. Fale com o atendimento.", "No podemos continuar por aquí. Contacta con atención al cliente."},
		ActionActivateAccount: {"Activate your account.", "Ative sua conta.", "Activa tu cuenta."},
	}
)

type languageKey struct{}

// maxAcceptLanguage bounds what is looked into; browsers send a tenth of it.
const maxAcceptLanguage = 1 << 10

// WithLanguage puts what the reader's Accept-Language asks for into the context.
func WithLanguage(ctx context.Context, acceptLanguage string) context.Context {
	if acceptLanguage == "" || len(acceptLanguage) > maxAcceptLanguage {
		return ctx
	}
	tags, _, err := language.ParseAcceptLanguage(acceptLanguage)
	if err != nil || len(tags) == 0 {
		return ctx // what cannot be read asks for nothing
	}
	_, index, _ := languages.Match(tags...)
	return context.WithValue(ctx, languageKey{}, index)
}

// ActionMessage is the sentence for a person, in the language of the context; English where none is asked for.
func ActionMessage(ctx context.Context, kind NextActionKind) string {
	index, _ := ctx.Value(languageKey{}).(int)
	return actionMessages[kind][index]
}
