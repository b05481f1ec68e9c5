package unicosim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// refusal is one row of the tables of errors (dossier 7.2, 7.3).
type refusal struct {
	status int
	code   string
	text   string
}

// refusals are the documented errors with their HTTP statuses and their words.
var refusals = func() map[string]refusal {
	byCode := make(map[string]refusal)
	for _, r := range []refusal{
		{400, "20900", "O base64 informado não é válido."},
		{400, "20807", "A imagem precisa estar no padrão HD ou possuir uma resolução superior a 640 x 480."},
		{400, "20507", "O parâmetro subject.code é inválido."},
		{400, "20506", "O base64 informado é muito grande. O tamanho máximo suportado é até 800kb."},
		{400, "20505", "O base64 informado não é suportado. Os formatos aceitos são png, jpeg e webp."},
		{400, "20009", "O parâmetro imagebase64 não foi informado."},
		{400, "20006", "O parâmetro subject.name não foi informado."},
		{400, "20005", "O parâmetro subject.code não foi informado."},
		{400, "20004", "O parâmetro subject não foi informado"},
		{400, "20003", "The request body is missing or invalid."},
		{400, "20002", "O parâmetro APIKey não foi informado."},
		{400, "20001", "O parâmetro authtoken não foi informado."},
		{400, "10508", "The JWT with the captured face has already been used"},
		{400, "10507", "The JWT with the captured face is expired"},
		{400, "10506", "O bundle informado é inválido."},
		{403, "30017", "O usuário não tem permissão para executar está ação."},
		{403, "10502", "O token informado está expirado."},
		{403, "10501", "O token informado é inválido."},
		{403, "10201", "O AppKey informado é inválido."},
		{500, "99999", "Internal failure! Try again later"},
		{400, "20023", "O parâmetro processId não foi informado."},
		{404, "50001", "O processo informado não foi encontrado."},
		{410, "41000", "The process ended in error."},                                // the number is ours: none was found
		{409, "40900", "The referenced process is not in a state that allows this."}, // likewise
		{403, "40300", "The capability is not enabled for this APIKEY."},             // likewise
	} {
		byCode[r.code] = r
	}
	return byCode
}()

func (s *Sim) refuse(w http.ResponseWriter, r refusal) {
	status := r.status
	if s.config.Generation == G4 {
		switch r.code { // the newest error page puts every kind of bad credentials under 401 (7.6)
		case "20001", "20002", "10501", "10502", "10201":
			status = http.StatusUnauthorized
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(s.errorBody(r))
}

// errorBody is the envelope of the generation (dossier 7.1).
func (s *Sim) errorBody(r refusal) []byte {
	inner := map[string]any{"code": r.code, "description": r.text}
	switch s.config.Generation {
	case G3, G4:
		inner["code"], _ = strconv.Atoi(r.code)
	case G1:
		inner = map[string]any{"code": r.code, "message": r.text}
	case G2:
	}
	body, err := json.Marshal(map[string]any{"error": inner})
	if err != nil {
		panic(err) // text and numbers always encode
	}
	return body
}

func itoa(i int) string { return strconv.Itoa(i) }
